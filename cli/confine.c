// Rights and system calls given up.
#include "cli/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <unistd.h>

bool ph_confine_become(struct ph_str user, struct ph_buf *error)
{
    struct ph_buf name = {0};
    const struct passwd *entry;
    int result = 0;

    if (user.len == 0) {
        return true;
    }
    ph_buf_append(&name, user);
    entry = getpwnam(ph_buf_cstr(&name));
    if (entry == NULL) {
        ph_buf_printf(error, "User: there is no user %s; make one, or name another",
                      ph_buf_cstr(&name));
    } else if (geteuid() != entry->pw_uid && geteuid() != 0) {
        ph_buf_printf(error, "User: only root can become %s; start posthaste as root or as %s",
                      ph_buf_cstr(&name), ph_buf_cstr(&name));
        entry = NULL;
    } else if (geteuid() == 0) {
        capng_clear(CAPNG_SELECT_BOTH);
        result =
            capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_BIND_SERVICE) == 0
                ? capng_change_id((int)entry->pw_uid, (int)entry->pw_gid,
                                  CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING)
                : -1;
        if (result != 0) {
            ph_buf_printf(error, "User: can't become %s (libcap-ng says %d)", ph_buf_cstr(&name),
                          result);
            entry = NULL;
        }
    }
    ph_buf_deinit(&name);
    return entry != NULL;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

// The leak checker looks at the process from a traced copy of it.
bool ph_confine_calls(struct ph_buf *error)
{
    (void)error;
    return true;
}

#else

bool ph_confine_calls(struct ph_buf *error)
{
    static const char *const never[] = {
        "execve",
        "execveat",
        "fork",
        "vfork",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "mount",
        "umount2",
        "move_mount",
        "open_tree",
        "fsopen",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "add_key",
        "request_key",
        "keyctl",
        "open_by_handle_at",
        "swapon",
        "swapoff",
        "reboot",
        "settimeofday",
        "clock_settime",
        "sethostname",
        "personality",
        "acct",
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int result = filter != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]) && result == 0; i++) {
        int call = seccomp_syscall_resolve_name(never[i]);

        if (call != __NR_SCMP_ERROR) {
            result = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, call, 0);
        }
    }
    // Threads, yes; processes, no. clone3's flags lie in memory: libc does without it.
    if (result == 0) {
        result = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    }
    if (result == 0) {
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    }
    if (result == 0) {
        result = seccomp_load(filter);
    }
    seccomp_release(filter);
    if (result < 0) {
        ph_buf_printf(error, "the system calls can't be confined: %s", strerror(-result));
    }
    return result == 0;
}

#endif
