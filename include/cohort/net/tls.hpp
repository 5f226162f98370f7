// SPDX-License-Identifier: BSL-1.0
/// asio::ssl::stream, and what is built like it (Beast's ssl_stream), as a stream of a worker's. For programs with
/// OpenSSL alone: nothing else of the library includes this, or needs OpenSSL. It does not include Asio's TLS: the
/// stream is the program's own choice.
#pragma once

#include <concepts>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "buffered_input.hpp"

namespace cohort {
namespace detail {

/// Whether OpenSSL decrypts a stream, and the stream shows its part of it.
template <class Stream>
concept decrypted_stream = requires(Stream& stream) {
  { stream.native_handle() } -> std::same_as<SSL*>;
};

}  // namespace detail

/// Bytes lie in three places behind the socket: decrypted in OpenSSL, as a part of a record in OpenSSL, and as records
/// in the pair of BIOs through which Asio feeds it. What is left of a record without data, a KeyUpdate for example, is
/// no input. The end of the stream is, and so is an error: both are for the reader to find.
template <detail::decrypted_stream Stream>
struct buffered_input<Stream> {
  static bool holds(Stream& stream) noexcept {
    SSL* const tls = stream.native_handle();
    const auto in_records = [tls] { return SSL_has_pending(tls) == 1 || BIO_ctrl_pending(SSL_get_rbio(tls)) > 0; };
    if (!in_records()) return false;
    if (SSL_is_init_finished(tls) != 1) return true;  // a peek would go on with the handshake
    ERR_clear_error();
    char first;
    const int got = SSL_peek(tls, &first, 1);
    const bool digested = got <= 0 && SSL_get_error(tls, got) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return !digested || in_records();
  }
};

}  // namespace cohort
