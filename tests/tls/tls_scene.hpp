// SPDX-License-Identifier: BSL-1.0
/// A worker of this process that talks TLS, and its clients, with a certificate that is made for them.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <utility>

#include "../../include/cohort/net/tls.hpp"

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/net/acceptor.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/worker/connection_handler.hpp"
#include "../../include/cohort/worker/options.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/protocol.hpp"
#include "../../include/cohort/worker/worker.hpp"
#include "../support/harness.hpp"

#ifdef COHORT_BOOST_ASIO
#include <boost/asio/ssl/stream.hpp>
#else
#include <asio/ssl/stream.hpp>
#endif

namespace cohort::test {

using tls_stream = asio::ssl::stream<asio::ip::tcp::socket>;

/// A server's settings, with a certificate that it has signed itself, valid for an hour.
inline std::shared_ptr<asio::ssl::context> make_server_context() {
  auto result = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  REQUIRE(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
  REQUIRE(SSL_CTX_use_certificate(result->native_handle(), certificate.get()) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(result->native_handle(), key.get()) == 1);
  return result;
}

/// A worker that accepts, and the parent's end of its channel. Ends before the test does: see ended().
class tls_scene {
 public:
  tls_scene(const asio::any_io_executor& executor, connection_handler handler)
      : tls_scene(executor, make_channel_pair(), std::move(handler)) {}

  asio::awaitable<void> start() {
    asio::co_spawn(parent_.get_executor(), self_->run(), [this](std::exception_ptr thrown, int status) {
      failure_ = thrown;
      status_ = status;
      self_.reset();
    });
    at_ = parse_endpoint("127.0.0.1:0");
    listener_ = open_listener(at_, listen_settings());
    worker_protocol::listen message;
    message.grant = 1;
    co_await parent_.send_handle(message, listener_);
  }

  asio::awaitable<asio::ip::tcp::socket> connect() {
    asio::ip::tcp::socket result(parent_.get_executor());
    co_await result.async_connect(at_, asio::use_awaitable);
    co_return result;
  }

  /// A client after its handshake.
  asio::awaitable<std::unique_ptr<tls_stream>> connect_tls() {
    auto socket = co_await connect();
    auto result = std::make_unique<tls_stream>(std::move(socket), client_);
    co_await result->async_handshake(tls_stream::client, asio::use_awaitable);
    co_return result;
  }

  void drain() {
    if (self_) self_->drain("the test asked for it");
  }

  /// What run() has returned.
  asio::awaitable<int> ended() {
    const bool done = co_await eventually([this] { return self_ == nullptr; });
    CHECK(done);
    if (failure_) std::rethrow_exception(failure_);
    co_return status_;
  }

 private:
  static worker_options at_once() {
    worker_options options;
    options.idle_grace = 0ms;
    return options;
  }

  tls_scene(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends, connection_handler handler)
      : parent_(executor, std::move(ends.first)),
        self_(std::make_unique<worker>(executor, parent_channel(executor, std::move(ends.second)), std::move(handler),
                                       at_once())) {}

  channel<worker_protocol::to_child, worker_protocol::to_parent> parent_;
  std::unique_ptr<worker> self_;
  std::exception_ptr failure_;
  int status_ = -1;
  asio::ip::tcp::endpoint at_;
  descriptor listener_;
  asio::ssl::context client_{asio::ssl::context::tls_client};
};

}  // namespace cohort::test
