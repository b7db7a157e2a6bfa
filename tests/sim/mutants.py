#!/usr/bin/env python3
"""Plants one-line bugs in a copy of the tree, one at a time, and sees that the simulator finds each.

    tests/sim/mutants.py [--seeds N] [NAME…]

Needs `./dev build release` (its BoringSSL is used). Exits 1 when a mutant lives."""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build/mutants"

# name: (file, what stands there, what takes its place; and so on for the same mutant)
MUTANTS = {
    "ack-before-sync": ("queue/spool.c",
        "ph_io_file_write_durable(segment->file, &spool->write_op",
        "ph_io_file_write(segment->file, &spool->write_op"),
    "failed-write-retried": ("queue/spool.c",
        "        segment->used = segment->size;\n        segment->preallocated = false;\n    }\n    spool->failures++;",
        "        segment->used += 0;\n    }\n    spool->failures++;"),
    "no-parent-sync": ("queue/spool_directory.c",
        "result = found == 0 ? sync_parent(io, path) : 0;",
        "result = found == 0 && sync_parent == NULL;"),
    "no-log-directory-sync": ("queue/spool_segment.c",
        "    } else if (segment->step == STEP_ALLOCATE) {",
        "    } else if (false) {"),
    "torn-contents-count": ("queue/spool_recovery.c",
        "contents_sound(r, segment, meta);\n",
        "contents_sound != NULL;\n"),
    "seed-without-epoch": ("queue/record.c",
        "    return ph_hash_bytes(&segment, sizeof(segment), spool_seed);",
        "    (void)segment;\n    return spool_seed;"),
    "recycled-too-early": ("queue/spool.c",
        "        ph_spool_segment_recycle(spool, oldest);",
        "        ph_spool_segment_recycle(spool, oldest + 1);"),
    "attempt-not-recorded": ("engine/delivery.c",
        "    if (count > 0) {\n        dispatch->pending++;",
        "    if (count > PH_RECIPIENTS_MAX) {\n        dispatch->pending++;"),
    "doubt-forgotten": ("engine/delivery.c",
        "        r->in_doubt = 1;",
        "        r->in_doubt = 0;"),
    "doubt-not-recovered": ("queue/spool_found.c",
        "            recipient->in_doubt = record->flags & PH_RECORD_FLAG_ATTEMPT;",
        "            recipient->in_doubt = false;"),
    # Without its ends alone it says the same: what has each recipient's last outcome is over.
    "summary-without-outcomes": ("queue/summary.c",
        "        take_outcome(summary, record);",
        "        (void)take_outcome;"),
    "summary-unsummed": ("queue/summary.c",
        "    if (ph_bytes_load_u64(end + FOOT_SUM_AT) != sum_of(end, entries, seed)) {",
        "    if (ph_bytes_load_u64(end + FOOT_SUM_AT) == 0 && sum_of(end, entries, seed) == 1) {"),
    "gone-on-behind-a-seal": ("queue/spool_summary.c",
        "    segment->used = segment->size;",
        "    segment->used += 0;"),
    "sent-is-not-attempted": ("smtp/client.c",
        "        outcome = PH_RECIPIENT_IN_DOUBT;",
        "        outcome = PH_RECIPIENT_NOT_ATTEMPTED;"),
    "doubt-without-cause": ("engine/delivery.c",
        "    case PH_RECIPIENT_NOT_ATTEMPTED:\n    case PH_RECIPIENT_BROKEN:\n",
        "    case PH_RECIPIENT_NOT_ATTEMPTED:\n    case PH_RECIPIENT_BROKEN:\n"
        "        r->in_doubt = 1;\n        PH_COUNT(worker, queued_in_doubt, 1);\n"),
    "refused-is-doubtful": ("engine/delivery.c",
        "            return true;\n        }\n        defer(worker, dispatch, which, &reason, interval_ms);",
        "            return true;\n        }\n        r->in_doubt = 1;\n"
        "        defer(worker, dispatch, which, &reason, interval_ms);"),
    "content-sum-skipped": ("queue/spool_load.c",
        "    return ph_spool_content_sum(work->spool, work->id, content) == work->body.sum;",
        "    return true || ph_spool_content_sum(work->spool, work->id, content) == work->body.sum;"),
    "damage-not-salvaged": ("queue/spool_recovery.c",
        "    salvage(r, segment, from, to);",
        "    (void)salvage;"),
    "damage-leaves-no-doubt": ("queue/spool_recovery.c",
        "    ph_found_doubt_all(r->found);",
        ""),
    "damage-not-told": ("queue/spool_recovery.c",
        "    r->report->quarantined_records++;\n    r->report->quarantined_bytes += to - from;",
        "    r->report->quarantined_bytes += to - from;"),
    "damage-ends-a-segment": ("queue/spool_recovery.c",
        "            uint64_t found = search_group(r, segment, at + PH_DURABLE_BLOCK_BYTES);\n",
        "            uint64_t found = 0;\n"),
    "read-once": ("queue/spool_load.c",
        "result == -EBADMSG && read_again(work)",
        "result == -EBADMSG && read_again == NULL"),
    "recovery-reads-once": ("queue/spool_recovery.c",
        "    if (!good) {\n        r->window_of = NULL;\n        good = group_at",
        "    if (false) {\n        r->window_of = NULL;\n        good = group_at"),
    "accepted-too-early": ("engine/storing.c",
        "    ph_delivery_log_describe(envelope, options->size, &storing->log_members);",
        "    ph_delivery_log_describe(envelope, options->size, &storing->log_members);\n"
        "    ph_delivery_log_accepted(worker, storing->id, ph_buf_str(&storing->log_members));"),
    "name-unchecked": ("tls/gate.c",
        "    return (count == 0 || match_names(j, references, count, naming_of(j))) &&",
        "    return (count == 0 || match_names != NULL) &&"),
    "chain-unchecked": ("tls/gate.c",
        "check_chain(&j) && check_revocation(&j)",
        "check_chain != NULL && check_revocation(&j)"),
    "revocation-unchecked": ("tls/path.c",
        "    ph_revocation_check(&question, &answer);",
        "    ph_revocation_check(&question, &answer);\n"
        "    answer.status = PH_REVOCATION_GOOD;"),
    "session-facts-ignored": ("engine/connection_gate.c",
        "    return ph_gate_judge(dispatch->policy, &subject, PH_CLEARANCE_ENVELOPE, out_clearance,",
        "    return ph_gate_judge(&c->site->spec->connector->policy, &subject, PH_CLEARANCE_ENVELOPE,"
        " out_clearance,"),
    "surplus-after-starttls": ("smtp/client_replies.c",
        "client->reply.code == 220 && input->len > 0) {",
        "client->reply.code == 220 && false) {",
        "engine/connection_session.c",
        "    case PH_CLIENT_EVENT_STARTTLS_READY:\n",
        "    case PH_CLIENT_EVENT_STARTTLS_READY:\n        ph_buf_clear(&c->inbound);\n"),
    "dots-not-stuffed": ("smtp/client_output.c",
        "        if (output->line_start && *at == '.') {",
        "        if (false) {"),
    "dots-not-unstuffed": ("smtp/body.c",
        "            put(body, out, &byte, 1); // the stuffed dot is gone",
        "            put(body, out, \".\", 1);\n            put(body, out, &byte, 1);"),
    "bounce-not-sent": ("engine/bounce.c",
        "    if (options.recipient_count > 0) {\n        good = store(worker, dispatch, &options);",
        "    if (options.recipient_count > 100) {\n        good = store(worker, dispatch, &options);"),
    "backoff-without-timer": ("engine/queues.c",
        "    hold_at(queue, queue->site != NULL",
        "    ph_wheel_cancel(&worker->wheel, &queue->retry_timer);\n"
        "    hold_at(queue, queue->site != NULL"),
    "grant-never-returned": ("engine/site.c",
        "    ph_home_site_release(site, how, reason);",
        "    (void)how;"),
    "delivered-not-counted": ("engine/delivery.c",
        "    PH_COUNT(worker, delivered, 1);",
        "    PH_COUNT(worker, delivered, 0);"),
    "done-forgotten": ("engine/delivery.c",
        "        ph_spool_done(ph_worker_spool_of(worker, message->id), NULL, message->id,\n"
        "                      &message->location);",
        "        (void)message;"),
}

# What the rows of the truth table find, without faults or with them.
TABLE_MUTANTS = {
    "table-clear-after-handshake": ("engine/connection.c",
        "    } else if (handshake && !ph_connection_demands_tls(c) &&",
        "    } else if (handshake &&",
        "tls/gate.c",
        "check_host(&j) && check_encryption(&j) && check_version(&j)",
        "check_host(&j) && check_encryption != NULL && check_version(&j)"),
    "table-name-unchecked": ("tls/gate.c",
        "    return (count == 0 || match_names(j, references, count, naming_of(j))) &&",
        "    return (count == 0 || match_names != NULL) &&"),
    "table-apex-by-wildcard": ("tls/identity.c",
        "        matches = dot > 0 && ph_str_eq_nocase(",
        "        matches = ph_str_eq_nocase(reference, ph_str_after(presented, 2)) ||\n"
        "                  ph_str_eq_nocase("),
    "table-credentials-to-anybody": ("tls/gate.c",
        "    return (j->policy->credentials_exact_host ||",
        "    return (false ||"),
    "table-mutual-unchecked": ("tls/gate.c",
        "check_names(&j) && check_mutual(&j)",
        "check_names(&j) && check_mutual != NULL"),
    "table-sts-unchecked": ("tls/gate.c",
        "check_dane(&j) && check_sts(&j)",
        "check_dane(&j) && check_sts != NULL"),
    # By faults alone: who can make a lookup fail would be rid of DANE.
    "table-no-answer-no-dane": ("dns/tlsa.c",
        "        out->status = PH_TLSA_FAILED;\n"
        "        *out_reason = ph_reason_make(PH_REASON_DNS_FAILURE,",
        "        out->status = PH_TLSA_NONE;\n"
        "        *out_reason = ph_reason_make(PH_REASON_DNS_FAILURE,"),
    # And of MTA-STS, though the policy is at hand.
    "table-no-record-no-policy": ("engine/sts_cache.c",
        "        out->policy = good ? ph_sts",
        "        out->policy = good && record == PH_STS_RECORD_FOUND ? ph_sts"),
}
MUTANTS |= TABLE_MUTANTS


# Faults without which a mutant does no harm, for those that chance brings together too seldom.
NEEDS = {
    "torn-contents-count": ["power_cut", "slow_disk"],
    "damage-not-salvaged": ["damage"],
    "damage-leaves-no-doubt": ["damage", "lost_replies"],
    "damage-ends-a-segment": ["damage"],
    "recovery-reads-once": ["bad_reads", "kill"],
}


def run(*command, **more):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **more)


def prepare():
    cache = (ROOT / "build/release/CMakeCache.txt").read_text()
    roots = [f"-D{name}={re.search(rf'^{name}:[A-Z]+=(.*)$', cache, re.M).group(1)}"
             for name in ("BORINGSSL_ROOT", "BORINGSSL_DETERMINISTIC_ROOT")]
    tree = WORK / "tree"
    listed = run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard")
    names = {name for name in listed.stdout.split() if (ROOT / name).is_file()}
    for old in tree.rglob("*"):
        if old.is_file() and str(old.relative_to(tree)) not in names:
            old.unlink()
    for name in names:
        # What a run that was broken off has left planted is newer than the source is here.
        if not (tree / name).is_file() or (tree / name).read_bytes() != (ROOT / name).read_bytes():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    made = run("cmake", "-G", "Ninja", "-S", str(tree), "-B", str(WORK / "build"),
               "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *roots)
    if made.returncode != 0:
        sys.exit(made.stdout)
    return tree


def build():
    return run("cmake", "--build", str(WORK / "build"), "-j2", "--target", "posthaste-sim")


def check(name):
    """Does what it changes stand where it should, once?"""
    patch = MUTANTS[name]
    counts = [(path, (ROOT / path).read_text().count(old))
              for path, old in zip(patch[0::3], patch[1::3])]
    return [f"{name}: what it changes stands {count} times in {path}"
            for path, count in counts if count != 1]


def plant(tree, name):
    """Returns the files that were changed."""
    patch = MUTANTS[name]
    changed = []
    for path, old, new in zip(patch[0::3], patch[1::3], patch[2::3]):
        (tree / path).write_text((tree / path).read_text().replace(old, new))
        changed.append(path)
    return changed


def try_mutant(tree, name, seeds):
    changed = plant(tree, name)
    built = build()
    if built.returncode != 0:
        sys.exit(f"{name} doesn't build:\n{built.stdout[-3000:]}")
    verdict = None
    chosen = ["--table"] if name in TABLE_MUTANTS else []
    for fault in NEEDS.get(name, []):
        chosen += ["--with", fault]
    for first in range(1, seeds + 1, 10):
        found = run(str(WORK / "build/posthaste-sim"), *chosen, "--from", str(first), "--count", "10",
                    "--quiet")
        failed = [line for line in found.stdout.splitlines() if "FAILED" in line]
        said = [line for line in found.stdout.splitlines() if "internal error" in line]
        if failed:
            verdict = failed[0] + (f" ({said[0]})" if said else "")
            break
    for path in changed:
        (tree / path).write_text((ROOT / path).read_text())
    return verdict


def main():
    arguments = argparse.ArgumentParser(description=__doc__,
                                        formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=1000)
    arguments.add_argument("names", nargs="*")
    options = arguments.parse_args()
    stale = [line for name in options.names or MUTANTS for line in check(name)]
    if stale:
        sys.exit("\n".join(stale))
    tree = prepare()
    built = build()
    if built.returncode != 0:
        sys.exit(built.stdout[-3000:])
    sound = run(str(WORK / "build/posthaste-sim"), "--from", "1", "--count", str(options.seeds),
                "--quiet")
    if sound.returncode != 0:
        sys.exit("without a mutant it fails too:\n" + sound.stdout)
    lived = []
    for name in options.names or MUTANTS:
        verdict = try_mutant(tree, name, options.seeds)
        print(f"{name:24} {verdict or 'LIVES'}", flush=True)
        if verdict is None:
            lived.append(name)
    print(f"{len(options.names or MUTANTS)} mutants, {len(lived)} live")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
