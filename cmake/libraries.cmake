# The libraries of the machine, and BoringSSL, which isn't one of them.
find_package(Threads REQUIRED)

# The static archive: the allocator belongs to the daemon, not to whoever else lives in a process.
find_library(PH_JEMALLOC libjemalloc_pic.a REQUIRED)
add_library(ph_jemalloc INTERFACE)
target_link_libraries(ph_jemalloc INTERFACE ${PH_JEMALLOC} m dl Threads::Threads)
# By name: link-time optimization doesn't tell the linker of malloc, and libc's would do.
target_link_options(ph_jemalloc INTERFACE -Wl,--undefined=malloc)

# BoringSSL: ./dev builds it into a cache and names it here; or an installed tree of a newer upstream.
set(BORINGSSL_ROOT "" CACHE PATH "installed BoringSSL: include/ and lib/")
set(BORINGSSL_DETERMINISTIC_ROOT "" CACHE PATH "the same in deterministic mode, for the simulator only")
if(NOT EXISTS "${BORINGSSL_ROOT}/lib/libssl.a" OR NOT EXISTS "${BORINGSSL_ROOT}/include/openssl/base.h")
  message(FATAL_ERROR "BORINGSSL_ROOT is not an installed BoringSSL (lib/libssl.a, include/openssl); "
                      "./dev build makes one and passes it")
endif()

foreach(name Crypto SSL)
  string(TOLOWER ${name} file)
  add_library(BoringSSL::${name} STATIC IMPORTED)
  set_target_properties(BoringSSL::${name} PROPERTIES
    IMPORTED_LOCATION ${BORINGSSL_ROOT}/lib/lib${file}.a
    IMPORTED_LINK_INTERFACE_LANGUAGES CXX
    INTERFACE_INCLUDE_DIRECTORIES ${BORINGSSL_ROOT}/include)
endforeach()
target_link_libraries(BoringSSL::Crypto INTERFACE Threads::Threads)
target_link_libraries(BoringSSL::SSL INTERFACE BoringSSL::Crypto)

# Before all others: development packages bring OpenSSL's headers of the same names.
include_directories(BEFORE ${BORINGSSL_ROOT}/include)
# Its C++ runtime goes into the executable: nothing but libc is asked of the machine.
add_link_options(-static-libstdc++ -static-libgcc)
