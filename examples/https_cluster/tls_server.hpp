// SPDX-License-Identifier: BSL-1.0
// What servers by TLS share: a certificate for each name, tickets of sessions that any worker resumes, and handshakes
// that end in time and are so many at a time.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <openssl/x509v3.h>
#include <asio/ssl/context.hpp>
#include <asio/ssl/stream.hpp>

#include <cohort/cohort.hpp>
#include <cohort/net/tls.hpp>
#include <cohort/net/tls_tickets.hpp>

namespace tls {

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;
using seconds = std::chrono::duration<double>;
using stream = asio::ssl::stream<tcp::socket>;

// What agent and workers say to each other. The agent outlives reloads, and the keys with it.
struct want_keys {};
struct ticket_keys {
  std::vector<cohort::tls_ticket_key> valid;  // the newest last
};
using bus = cohort::messenger<std::variant<want_keys, ticket_keys>>;

/// Makes the keys of the tickets, and a new one when it is time.
class key_maker {
 public:
  awaitable<void> set_up(cohort::worker& self) {
    talk_ = std::make_unique<bus>(self);
    talk_->on<want_keys>([this](const want_keys&, const cohort::member& from) -> awaitable<void> {
      const ticket_keys message{keys_};
      co_await talk_->send_to(from, message);
    });
    co_return;
  }

  awaitable<void> run(cohort::worker& self, seconds interval) {
    asio::steady_timer timer(self.get_executor());
    for (;;) {
      timer.expires_after(std::chrono::duration_cast<std::chrono::milliseconds>(interval));
      co_await timer.async_wait(use_awaitable);
      keys_.erase(keys_.begin());
      keys_.push_back(cohort::make_tls_ticket_key());
      const ticket_keys message{keys_};
      co_await talk_->send_to_workers(message);
    }
  }

 private:
  std::unique_ptr<bus> talk_;
  std::vector<cohort::tls_ticket_key> keys_{cohort::make_tls_ticket_key(), cohort::make_tls_ticket_key()};
};

/// What a worker speaks TLS with.
class server {
 public:
  /// `protocol` is what it speaks above TLS, by its name in ALPN.
  explicit server(std::string_view protocol)
      : protocol_(fmt::format("{}{}", static_cast<char>(protocol.size()), protocol)) {}

  server(const server&) = delete;
  server& operator=(const server&) = delete;

  awaitable<void> set_up(cohort::worker& self, const std::vector<std::string>& certificates) {
    for (const auto& each : certificates) load(each);
    talk_ = std::make_unique<bus>(self);
    talk_->on<ticket_keys>([this](const ticket_keys& message) {
      for (const auto& each : message.valid) keys_.add(each);
    });
    talk_->on<cohort::agent_back>([this](const cohort::agent_back&) { return ask(); });
    co_await ask();
  }

  asio::ssl::context& context() { return *contexts_.front(); }

  unsigned handshakes = 0;  // that are under way

 private:
  /// Returns when the keys are here: the agent sends them before it answers. A server without the agent's keys serves
  /// all the same, and asks again when the agent is back.
  awaitable<void> ask() {
    const want_keys question;
    const cohort::receipt said = co_await talk_->send_to_agent("tickets", question);
    if (!said.complete()) cohort::error_log::write(fmt::format("no ticket keys: {}", cohort::to_string(said)));
  }

  void load(const std::string& file) {
    auto made = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    SSL_CTX_set_min_proto_version(made->native_handle(), TLS1_2_VERSION);
    try {
      made->use_certificate_chain_file(file);
      made->use_private_key_file(file, asio::ssl::context::pem);
    } catch (const std::system_error& error) {
      throw std::runtime_error(fmt::format("certificate {}: {}", file, error.what()));
    }
    keys_.use_in(made->native_handle());
    SSL_CTX_set_alpn_select_cb(made->native_handle(), &on_protocols, this);
    SSL_CTX_set_tlsext_servername_callback(made->native_handle(), &on_name);
    SSL_CTX_set_tlsext_servername_arg(made->native_handle(), this);
    contexts_.push_back(std::move(made));
  }

  static int on_protocols(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                          unsigned int length, void* self) {
    const std::string& ours = static_cast<server*>(self)->protocol_;
    unsigned char* found = nullptr;
    if (SSL_select_next_proto(&found, size, reinterpret_cast<const unsigned char*>(ours.data()),
                              static_cast<unsigned>(ours.size()), offered, length) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
  }

  static int on_name(SSL* connection, int*, void* self) {
    const char* const name = SSL_get_servername(connection, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
    for (const auto& each : static_cast<server*>(self)->contexts_) {
      if (X509_check_host(SSL_CTX_get0_certificate(each->native_handle()), name, 0, 0, nullptr) != 1) continue;
      SSL_set_SSL_CTX(connection, each->native_handle());
      return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
  }

  const std::string protocol_;
  cohort::tls_ticket_keys keys_;
  std::vector<std::unique_ptr<asio::ssl::context>> contexts_;
  std::unique_ptr<bus> talk_;
};

/// Until the first request has begun: a client that has just shaken hands is not idle, and no drain may close it.
inline awaitable<void> greet(stream& connection) {
  co_await connection.async_handshake(stream::server, use_awaitable);
  if (cohort::buffered_input<stream>::holds(connection)) co_return;
  co_await connection.lowest_layer().async_wait(tcp::socket::wait_read, use_awaitable);
}

/// False if `most` others are before their first request, too.
inline awaitable<bool> greet_in_time(stream& connection, unsigned& under_way, unsigned most, seconds limit) {
  if (under_way >= most) co_return false;
  ++under_way;
  const std::unique_ptr<unsigned, void (*)(unsigned*)> at_the_end(&under_way, [](unsigned* count) { --*count; });
  co_await cohort::with_timeout(greet(connection), limit);
  co_return true;
}

/// The close_notify, without which the client could not tell the end from an attack. Its own may stay away.
inline awaitable<void> end(stream& connection) {
  co_await cohort::with_timeout(connection.async_shutdown(use_awaitable), 1s);
}

/// The agent that makes the keys: it outlives reloads, and the keys with it.
inline cohort::agent_options ticket_agent(key_maker& maker, seconds interval) {
  cohort::agent_options agent("tickets",
                              [&maker, interval](cohort::worker& self) { return maker.run(self, interval); });
  agent.set_up = [&maker](cohort::worker& self) { return maker.set_up(self); };
  return agent;
}

}  // namespace tls
