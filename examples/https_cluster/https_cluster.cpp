// SPDX-License-Identifier: BSL-1.0
// An HTTPS server of several processes: TLS 1.2 and 1.3, a certificate for each name, sessions that any worker resumes.
//
//   https_cluster --certificate FILE [--certificate FILE…] [--listen 127.0.0.1:8443] [--workers 4]
//                 [--rotate SECONDS] [--handshake SECONDS] [--handshakes NUMBER]
//
// Each FILE has a certificate, the chain above it and its private key. The first one is for clients that name none of
// the others. The workers read the files when they start: after a change, HUP replaces the workers without dropping a
// connection. If a file is bad then, the old workers go on with what they have read.
//
// --rotate is how long a key makes tickets; it is valid for as long again. --handshake is the time from a connection to
// its first request, and --handshakes how many connections of a worker may be before that; others are closed.

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
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
#include <unistd.h>
#include <asio/ssl/context.hpp>
#include <asio/ssl/stream.hpp>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>
#include <cohort/net/tls.hpp>
#include <cohort/net/tls_tickets.hpp>

#include "../http.hpp"

using asio::awaitable;
using asio::buffer;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;
using seconds = std::chrono::duration<double>;
using tls_stream = asio::ssl::stream<tcp::socket>;

constexpr auto farewell_limit = 1s;

// What agent and workers say to each other. The agent outlives reloads, and the keys with it.
struct want_keys {};
struct ticket_keys {
  std::vector<cohort::tls_ticket_key> valid;  // the newest last
};
using bus = cohort::messenger<std::variant<want_keys, ticket_keys>>;

struct settings {
  std::string listen = "127.0.0.1:8443";
  unsigned workers = 4;
  double rotate = 3600;   // seconds
  double handshake = 10;  // seconds
  unsigned handshakes = 256;
  std::vector<std::string> certificates;
};

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
class tls_server {
 public:
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

  unsigned handshakes = 0;

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
    SSL_CTX_set_alpn_select_cb(made->native_handle(), &on_protocols, nullptr);
    SSL_CTX_set_tlsext_servername_callback(made->native_handle(), &on_name);
    SSL_CTX_set_tlsext_servername_arg(made->native_handle(), this);
    contexts_.push_back(std::move(made));
  }

  static int on_protocols(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                          unsigned int length, void*) {
    static constexpr unsigned char ours[] = "\x08http/1.1";
    unsigned char* found = nullptr;
    if (SSL_select_next_proto(&found, size, ours, sizeof ours - 1, offered, length) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
  }

  static int on_name(SSL* connection, int*, void* self) {
    const char* const name = SSL_get_servername(connection, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
    for (const auto& each : static_cast<tls_server*>(self)->contexts_) {
      if (X509_check_host(SSL_CTX_get0_certificate(each->native_handle()), name, 0, 0, nullptr) != 1) continue;
      SSL_set_SSL_CTX(connection, each->native_handle());
      return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
  }

  cohort::tls_ticket_keys keys_;
  std::vector<std::unique_ptr<asio::ssl::context>> contexts_;
  std::unique_ptr<bus> talk_;
};

/// Until the first request has begun: a client that has just shaken hands is not idle, and no drain may close it.
awaitable<void> greet(tls_stream& stream) {
  co_await stream.async_handshake(tls_stream::server, use_awaitable);
  if (cohort::buffered_input<tls_stream>::holds(stream)) co_return;
  co_await stream.lowest_layer().async_wait(tcp::socket::wait_read, use_awaitable);
}

awaitable<bool> greet_in_time(tls_stream& stream, unsigned& under_way, const settings& limits) {
  if (under_way >= limits.handshakes) co_return false;
  ++under_way;
  const std::unique_ptr<unsigned, void (*)(unsigned*)> at_the_end(&under_way, [](unsigned* count) { --*count; });
  co_await cohort::with_timeout(greet(stream), seconds(limits.handshake));
  co_return true;
}

awaitable<void> answer_all(tls_stream& stream, cohort::worker& self) {
  const std::string who = fmt::format("handled by worker {}, pid {}\n", self.slot(), ::getpid());
  http::request_parser request;
  std::array<char, 8192> bytes;
  std::string output;
  for (bool close = false; !close;) {
    if (!request.in_request()) {
      const bool more = co_await self.readable(stream);
      if (!more) co_return;
    }
    std::error_code error;
    const auto size = co_await stream.async_read_some(buffer(bytes), asio::redirect_error(use_awaitable, error));
    if (error == asio::error::eof) co_return;  // the client's close_notify, which is answered
    if (error) throw std::system_error(error);
    std::string_view input(bytes.data(), size);
    while (!close && request.parse(input)) {
      close = !request.keep_alive() || (self.draining() && input.empty());
      http::append(output, request, {HTTP_STATUS_OK, who}, close);
    }
    if (request.failed()) {
      http::append(output, request, http::bad_request(request), true);
      close = true;
    }
    if (!output.empty()) co_await asio::async_write(stream, buffer(output), use_awaitable);
    output.clear();
  }
}

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self, tls_server& tls, const settings& limits) {
  socket.set_option(tcp::no_delay(true));
  tls_stream stream(std::move(socket), tls.context());
  const bool secure = co_await greet_in_time(stream, tls.handshakes, limits);
  if (!secure) co_return;
  co_await answer_all(stream, self);
  // The close_notify, without which the client could not tell the end from an attack. Its own may stay away.
  co_await cohort::with_timeout(stream.async_shutdown(use_awaitable), farewell_limit);
}

settings parse_options(int argc, char* argv[]) {
  settings result;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--certificate" && !value.empty()) {
      result.certificates.push_back(value);
    } else if (!(option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) &&
               !(option == "--rotate" && http::parse_number(value, 0.1, 86'400.0, result.rotate)) &&
               !(option == "--handshake" && http::parse_number(value, 0.01, 3600.0, result.handshake)) &&
               !(option == "--handshakes" && http::parse_number(value, 1u, 100'000u, result.handshakes))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  if (result.certificates.empty()) throw std::invalid_argument("want a --certificate");
  return result;
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "https_cluster: {}\nusage: https_cluster --certificate FILE [--certificate FILE]… [--listen "
               "ADDRESS:PORT] [--workers N] [--rotate SECONDS] [--handshake SECONDS] [--handshakes N]\n",
               error.what());
    return 2;
  }
  tls_server tls;
  key_maker maker;
  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.defer_accept = true;  // in TLS the client speaks first
  options.worker.set_up = [&](cohort::worker& self) { return tls.set_up(self, wanted.certificates); };
  cohort::agent_options agent("tickets", [&](cohort::worker& self) { return maker.run(self, seconds(wanted.rotate)); });
  agent.set_up = [&](cohort::worker& self) { return maker.set_up(self); };
  options.agents = {agent};
  options.on_event = [](const cohort::cluster_event& event) {
    const auto text = cohort::to_string(event);
    if (event.what != cohort::cluster_event::kind::listening) return cohort::error_log::write(text);
    std::puts(text.c_str());
    std::fflush(stdout);
  };
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return serve_connection(std::move(socket), self, tls, wanted);
  });
}
