// SPDX-License-Identifier: BSL-1.0
// The other end of a Node channel, for tests that Node drives.
//
//   node_peer                    a child, on the channel that NODE_CHANNEL_FD names; it ignores the words of fork()
//   node_peer --spawn CMD ARG…   starts CMD with a channel, is its peer, and exits with its code (1 for a signal)
//
// It answers a message with the same message, but does what a member $op asks for: see the list of operations below.
// NODE_PEER_MODE=advanced has --spawn use that serialization.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <unistd.h>

#include "../../include/cohort/core/asio_error.hpp"
#include "../../include/cohort/core/run_sync.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/ipc/node/peer.hpp"

using namespace cohort;
using asio::ip::tcp;
using asio::ip::udp;
using local_acceptor = asio::local::stream_protocol::acceptor;
using stream = asio::posix::stream_descriptor;

namespace {

struct protocol {
  using to_child = json;
  using to_parent = json;
};

using message = received<json>;

json object(std::string_view name, json value) {
  json result = json::object();
  result[std::string(name)] = std::move(value);
  return result;
}

std::string words() { return "handled by a cohort peer pid " + std::to_string(::getpid()); }

json variables() {
  json result = json::object();
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view variable(*each);
    if (!variable.starts_with("NODE_CHANNEL") && !variable.starts_with("NODE_UNIQUE")) continue;
    const auto equals = variable.find('=');
    result[std::string(variable.substr(0, equals))] = std::string(variable.substr(equals + 1));
  }
  return result;
}

template <class Stream>
asio::awaitable<void> write_all(Stream& to, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto size = co_await to.async_write_some(asio::buffer(bytes.data(), bytes.size()), detail::awaited);
    bytes.remove_prefix(size);
  }
}

/// Writes a line and closes. What the client has sent is read before: it would see a reset, and not the line.
template <class Stream>
asio::awaitable<void> say_and_close(Stream to, std::string line) {
  try {
    co_await write_all(to, line);
  } catch (...) {
    detail::caught();  // the client has left
  }
  char unread[4096];
  while (::read(to.native_handle(), unread, sizeof unread) > 0) continue;
}

/// Serves one end of a channel until it ends.
class served {
 public:
  served(node_channel<json, json>& channel, std::string role, asio::any_io_executor executor)
      : channel_(channel), role_(std::move(role)), executor_(std::move(executor)), tasks_(executor_) {}

  /// The exit code that the peer has asked for, if it has; none when the channel has ended.
  asio::awaitable<std::optional<int>> run() {
    std::optional<int> code;
    for (bool more = true; more;) {
      try {
        auto next = co_await channel_.receive_any();
        more = next.has_value();
        if (more) code = co_await answer(std::move(*next));
        if (code || left_) more = false;
      } catch (...) {
        const auto error = detail::caught();
        std::fprintf(stderr, "node_peer: %s\n", error.what());
        if (error.code() != errc::malformed) more = channel_.is_connected();
      }
    }
    held_.clear();
    co_await tasks_.cancel_and_wait();
    co_return code;
  }

 private:
  asio::awaitable<std::optional<int>> answer(message what) {
    const json body = std::move(what.message);
    any_handle handle = std::move(what.handle);
    std::optional<int> code;
    const auto op = body.is_object() ? body.find("$op") : body.end();
    if (op == body.end() || !op->is_string()) {
      co_await say(body);
      co_return code;
    }
    const auto name = op->get<std::string>();
    const json tag = body.value("tag", json());
    std::string failure;
    try {
      if (name == "pid") {
        json reply = object("$pid", ::getpid());
        reply["$role"] = role_;
        co_await say(reply);
      } else if (name == "env") {
        const json reply = object("$env", variables());
        co_await say(reply);
      } else if (name == "serve") {
        co_await serve(body.value("n", 1), std::move(handle));
      } else if (name == "socket") {
        stream socket = std::move(handle).as<stream>(executor_);
        const json reply = object("$socket", tag);
        co_await say(reply);
        const std::string text = tag.is_string() ? tag.get<std::string>() : tag.dump();
        co_await say_and_close(std::move(socket), "socket " + words() + " " + text + "\n");
      } else if (name == "hold") {
        held_.push_back(std::make_shared<stream>(std::move(handle).as<stream>(executor_)));
        tasks_.start(echo(held_.back()), ignored("the client may leave as it likes"));
        const json reply = object("$held", tag);
        co_await say(reply);
      } else if (name == "release") {
        const json reply = object("$released", held_.size());
        for (const auto& each : held_) each->close();
        held_.clear();
        co_await say(reply);
      } else if (name == "dgram") {
        auto socket = std::make_shared<udp::socket>(std::move(handle).as<udp::socket>(executor_));
        tasks_.start(answer_datagram(socket), ignored("the test sees whether it is answered"));
        const json reply = object("$dgram", true);
        co_await say(reply);
      } else if (name == "native") {
        const bool listens = handle.kind() == handle_kind::tcp_acceptor || handle.kind() == handle_kind::local_acceptor;
        const json reply = object("$native", listens ? "listener" : "other");
        handle = any_handle();
        co_await say(reply);
      } else if (name == "give-server") {
        co_await give_server();
      } else if (name == "give-socket") {
        const auto host = body.value("host", "127.0.0.1");
        co_await give_socket(host, body.value("port", 0));
      } else if (name == "exit") {
        co_await channel_.flush();
        code = body.value("code", 0);
      } else if (name == "disconnect") {
        co_await channel_.disconnect();
        left_ = true;
      } else {
        failure = "no such $op: " + name;
      }
    } catch (const json::exception& error) {
      failure = error.what();
    } catch (...) {
      const auto error = detail::caught();
      if (!channel_.is_connected()) throw;
      failure = error.what();
    }
    if (!failure.empty()) {
      const json reply = object("$error", failure);
      co_await say(reply);
    }
    co_return code;
  }

  /// A peer that has left is no reason not to do what it has asked for.
  asio::awaitable<void> say(const json& what) {
    try {
      co_await channel_.send(what);
    } catch (const std::system_error& error) {
      if (error.code() != errc::peer_closed) throw;
    }
  }

  asio::awaitable<void> serve(int count, any_handle handle) {
    asio::awaitable<void> accepting;
    if (handle.kind() == handle_kind::local_acceptor) {
      accepting = accept_all(std::move(handle).as<local_acceptor>(executor_), count);
    } else {
      accepting = accept_all(std::move(handle).as<tcp::acceptor>(executor_), count);
    }
    const json reply = object("$serving", true);
    co_await say(reply);
    tasks_.start(std::move(accepting), ignored("the test misses $served"));
  }

  template <class Acceptor>
  asio::awaitable<void> accept_all(Acceptor acceptor, int count) {
    for (int accepted = 0; accepted < count; ++accepted) {
      auto socket = co_await acceptor.async_accept(detail::awaited);
      co_await say_and_close(std::move(socket), words() + "\n");
    }
    acceptor.close();
    const json reply = object("$served", count);
    co_await say(reply);
  }

  static asio::awaitable<void> echo(std::shared_ptr<stream> socket) {
    std::array<char, 4096> bytes;
    for (;;) {
      const auto size = co_await socket->async_read_some(asio::buffer(bytes), detail::awaited);
      co_await write_all(*socket, std::string_view(bytes.data(), size));
    }
  }

  static asio::awaitable<void> answer_datagram(std::shared_ptr<udp::socket> socket) {
    std::array<char, 65536> bytes;
    udp::endpoint from;
    const auto size = co_await socket->async_receive_from(asio::buffer(bytes), from, detail::awaited);
    const std::string reply = "udp:" + std::string(bytes.data(), size);
    co_await socket->async_send_to(asio::buffer(reply), from, detail::awaited);
  }

  asio::awaitable<void> give_server() {
    tcp::acceptor acceptor(executor_, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    json given = object("$given", "server");
    given["port"] = acceptor.local_endpoint().port();
    co_await channel_.send_handle(given, std::move(acceptor));
    const json reply = object("$acked", "server");
    co_await say(reply);
  }

  asio::awaitable<void> give_socket(std::string host, int port) {
    tcp::resolver resolver(executor_);
    const auto found = co_await resolver.async_resolve(host, std::to_string(port), detail::awaited);
    tcp::socket socket(executor_);
    co_await socket.async_connect(found.begin()->endpoint(), detail::awaited);
    const json given = object("$given", "socket");
    co_await channel_.send_handle(given, std::move(socket));
    const json reply = object("$acked", "socket");
    co_await say(reply);
  }

  node_channel<json, json>& channel_;
  std::string role_;
  asio::any_io_executor executor_;
  std::list<std::shared_ptr<stream>> held_;
  bool left_ = false;
  task_group tasks_;
};

asio::awaitable<int> be_child() {
  const auto executor = co_await asio::this_coro::executor;
  auto channel = parent<protocol, node_wire>(executor);
  served serving(channel, "child", executor);
  const auto code = co_await serving.run();
  co_return code.value_or(0);
}

asio::awaitable<int> be_parent(command what) {
  const auto executor = co_await asio::this_coro::executor;
  node_options options;
  const char* const mode = std::getenv("NODE_PEER_MODE");
  if (mode != nullptr && std::string_view(mode) == "advanced") options.serialization = node_serialization::advanced;
  auto peer = co_await spawn<protocol, node_wire>(std::move(what), options);
  // What this process had of them was no channel of its own, and has not reached the child.
  for (const char* name : {"NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"}) ::unsetenv(name);
  served serving(peer, "parent", executor);
  const auto code = co_await serving.run();
  if (code) {
    peer.detach();
    co_return *code;
  }
  const auto status = co_await peer.wait();
  co_return status.code().value_or(1);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // of the sockets that are written to as plain descriptors
  try {
    if (argc < 3 || std::string_view(argv[1]) != "--spawn") return run_sync(be_child());
    command what(argv[2]);
    for (int index = 3; index < argc; ++index) what.arg(argv[index]);
    return run_sync(be_parent(std::move(what)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "node_peer: %s\n", error.what());
    return 1;
  }
}
