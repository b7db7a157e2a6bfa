// The one way to BoringSSL's headers. OpenSSL's are on many machines too (test libraries bring
// them), and a forgotten include path would take them without a word.
#pragma once

#include <openssl/base.h>

#ifndef OPENSSL_IS_BORINGSSL
#error "these are not BoringSSL's headers: the include path of target BoringSSL::SSL is missing"
#endif
