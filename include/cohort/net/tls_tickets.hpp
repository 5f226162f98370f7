// SPDX-License-Identifier: BSL-1.0
/// Session tickets of TLS that every process with the same keys resumes. For programs with OpenSSL 3 alone: nothing
/// else of the library includes this, or needs OpenSSL.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <system_error>
#include <utility>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include "../core/error.hpp"

namespace cohort {

/// What tickets are encrypted and signed with. It opens recorded connections of TLS 1.2, so never write it to a disk;
/// as a field of a message it goes from process to process.
struct tls_ticket_key {
  std::array<std::uint8_t, 16> name{};  ///< stands in each ticket
  std::array<std::uint8_t, 32> cipher{};
  std::array<std::uint8_t, 32> mac{};

  bool operator==(const tls_ticket_key&) const = default;
};

/// A new key. Throws std::errc::io_error if OpenSSL has no random numbers.
inline tls_ticket_key make_tls_ticket_key() {
  tls_ticket_key result;
  for (auto [bytes, size] :
       {std::pair(result.name.data(), result.name.size()), std::pair(result.cipher.data(), result.cipher.size()),
        std::pair(result.mac.data(), result.mac.size())}) {
    if (RAND_priv_bytes(bytes, static_cast<int>(size)) != 1) {
      throw_error("tls ticket key: RAND_priv_bytes", std::make_error_code(std::errc::io_error));
    }
  }
  return result;
}

/// The keys of a process, which one or several SSL_CTX use. New tickets are made with the newest key. A ticket of the
/// key before is resumed, and the client gets a new one; a ticket of any other key leads to a full handshake.
///
/// Distinct objects: safe. Shared objects: unsafe, and handshakes share it. Must outlive the contexts that use it.
class tls_ticket_keys {
 public:
  static constexpr std::size_t kept = 2;

  /// Begins with a key that nobody else has, until add() is called.
  tls_ticket_keys() : keys_{make_tls_ticket_key()} {}
  tls_ticket_keys(const tls_ticket_keys&) = delete;
  tls_ticket_keys& operator=(const tls_ticket_keys&) = delete;
  ~tls_ticket_keys() {
    for (auto& each : keys_) forget(each);
  }

  /// Makes a key the newest. One that is the newest already stays it.
  void add(const tls_ticket_key& key) {
    if (keys_.front() == key) return;
    keys_.push_front(key);
    if (keys_.size() <= kept) return;
    forget(keys_.back());
    keys_.pop_back();
  }

  /// Has the tickets of a context made and resumed with these keys. Throws std::errc::invalid_argument if OpenSSL does
  /// not let it.
  void use_in(SSL_CTX* context) {
    const int where = index();
    if (where < 0 || SSL_CTX_set_ex_data(context, where, this) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &on_ticket) != 1) {
      throw_error("tls ticket keys: SSL_CTX_set_tlsext_ticket_key_evp_cb",
                  std::make_error_code(std::errc::invalid_argument));
    }
  }

 private:
  static void forget(tls_ticket_key& key) noexcept { OPENSSL_cleanse(&key, sizeof key); }

  static int index() {
    static const int result = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return result;
  }

  /// See SSL_CTX_set_tlsext_ticket_key_evp_cb(3): below 0 fails the handshake, 0 is no such key, 2 wants a new ticket.
  static int on_ticket(SSL* connection, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                       EVP_MAC_CTX* mac, int makes) {
    // The context that the connection began with: a server name may have chosen another one, which uses these too.
    auto* const self = static_cast<tls_ticket_keys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(connection), index()));
    if (self == nullptr) return -1;
    const auto& keys = self->keys_;
    const auto key = makes != 0 ? keys.begin() : std::find_if(keys.begin(), keys.end(), [name](const auto& each) {
      return std::memcmp(each.name.data(), name, each.name.size()) == 0;
    });
    if (key == keys.end()) return 0;
    auto secret = key->mac;
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret.data(), secret.size()),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    const bool signs = EVP_MAC_CTX_set_params(mac, parameters) == 1;
    OPENSSL_cleanse(secret.data(), secret.size());
    if (!signs) return -1;
    if (makes != 0) {
      std::copy(key->name.begin(), key->name.end(), name);
      if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
      return EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), key->cipher.data(), iv, nullptr) == 1 ? 1 : -1;
    }
    if (EVP_DecryptInit_ex2(cipher, EVP_aes_256_cbc(), key->cipher.data(), iv, nullptr) != 1) return -1;
    return key == keys.begin() ? 1 : 2;
  }

  std::deque<tls_ticket_key> keys_;  // the newest first, never empty
};

}  // namespace cohort
