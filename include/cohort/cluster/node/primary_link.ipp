// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "primary_link.hpp"

#include <cerrno>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include <sys/socket.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/error_log.hpp"
#include "../../core/scope.hpp"
#include "../../core/system.hpp"
#include "../../core/timeout.hpp"
#include "../../ipc/channel_pair.hpp"
#include "../../net/endpoint.hpp"
#include "../../worker/exit_codes.hpp"
#include "message.hpp"

namespace cohort::node_cluster {

namespace detail {

/// What a worker writes of an address in its queryServer.
COHORT_INLINE json address_fields(const std::string& where) {
  json fields = json::object();
  fields["data"] = nullptr;
  fields["backlog"] = 0;
  if (where.starts_with("unix:")) {
    const std::string path = where.substr(5);
    fields["address"] = path.starts_with('@') ? std::string(1, '\0') + path.substr(1) : path;
    fields["port"] = -1;
    fields["addressType"] = -1;
    return fields;
  }
  const bool datagrams = where.starts_with("udp:");
  const std::string text = datagrams ? where.substr(4) : where;
  const auto endpoint = parse_endpoint(text);
  const bool six = endpoint.address().is_v6();
  fields["port"] = endpoint.port();
  fields["address"] = text.starts_with(':') ? json() : json(endpoint.address().to_string());
  if (datagrams) {
    fields["addressType"] = six ? "udp6" : "udp4";
    fields["fd"] = -1;
    fields["flags"] = 0;
  } else {
    fields["addressType"] = six ? 6 : 4;
  }
  return fields;
}

/// What `errno` of a reply says; 0 for no error.
COHORT_INLINE int error_in(const json& reply) {
  const json& value = member_of(reply, "errno");
  if (!value.is_number_integer() || value >= 0) return 0;
  constexpr std::int64_t most = 4095;  // MAX_ERRNO of the kernel
  const auto number = value.get<std::int64_t>();
  return number >= -most ? static_cast<int>(-number) : EINVAL;
}

/// The port that a listener has got: of the socket itself, or of what the primary says of its own.
COHORT_INLINE json port_of(const node_message& answer, const json& fields) {
  const int fd = answer.handle.object.native_handle();
  asio::ip::tcp::endpoint where;
  socklen_t size = static_cast<socklen_t>(where.capacity());
  const bool internet = fields["addressType"] != -1;
  if (fd >= 0 && internet && ::getsockname(fd, where.data(), &size) == 0) return where.port();
  const json& name = member_of(answer.value, "sockname");
  const json& port = name.is_object() ? member_of(name, "port") : name;
  return port.is_number() ? port : fields["port"];
}

}  // namespace detail

COHORT_INLINE primary_link::primary_link(const asio::any_io_executor& executor, node_link wire,
                                         const node_worker_options& options)
    : wire_(std::move(wire)), options_(options), tasks_(executor), answered_(executor) {}

COHORT_INLINE parent_channel primary_link::connect() {
  auto ends = make_channel_pair();
  to_worker_ = channel<orders, words>(tasks_.get_executor(), std::move(ends.first));
  return parent_channel(tasks_.get_executor(), std::move(ends.second));
}

COHORT_INLINE void primary_link::begin(worker& self) {
  self_ = &self;
  say(message_with("act", "online"));
  start(hear_worker());
  start(hear_primary());
  start(hear_messages());
}

COHORT_INLINE void primary_link::start(asio::awaitable<void> work) {
  tasks_.start(std::move(work), [this](const std::exception_ptr& failure) {
    if (!failure) return;
    if (const auto error = cohort::detail::system_error_in(failure)) {
      const auto code = error->code();
      if (code == operation_aborted() || code == errc::peer_closed || code == errc::closed) return;
    }
    self_->on_exception(failure);
  });
}

COHORT_INLINE asio::awaitable<void> primary_link::hear_worker() {
  while (auto word = co_await to_worker_.receive()) {
    if (std::holds_alternative<worker_protocol::ready>(*word)) {
      start(listen());
    } else if (std::holds_alternative<worker_protocol::draining>(*word)) {
      close_listeners();
    } else if (const auto* trouble = std::get_if<worker_protocol::failed>(&*word)) {
      error_log::write(fmt::format("worker: {}", trouble->what));  // Node has no word for it
    }
  }
}

COHORT_INLINE asio::awaitable<void> primary_link::hear_primary() {
  try {
    while (auto message = co_await wire_.receive_internal()) hear(std::move(*message));
  } catch (...) {
    const auto error = cohort::detail::caught();
    if (error.code() == operation_aborted()) throw;
  }
  gone_ = true;
  for (const auto& [number, each] : questions_) each->answered.set();
  to_worker_.close();  // a worker without a parent drains
}

COHORT_INLINE asio::awaitable<void> primary_link::hear_messages() {
  for (;;) {
    std::optional<node_message> message;
    try {
      message = co_await wire_.receive();
    } catch (...) {
      const auto error = cohort::detail::caught();
      if (error.code() != errc::malformed) throw;
      continue;
    }
    if (!message) co_return;
    if (options_.on_message) options_.on_message(*this, std::move(message->value));
  }
}

COHORT_INLINE void primary_link::hear(node_message message) {
  const json& value = message.value;
  if (const auto answered = detail::number_in(value, "ack")) {
    const auto at = questions_.find(*answered);
    if (at != questions_.end()) {
      at->second->answer = std::move(message);
      at->second->answered.set();
      return;
    }
  }
  const std::string act = detail::text_in(value, "act");
  if (act == "newconn") {
    start(serve(std::move(message)));
  } else if (act == "disconnect") {
    told_to_leave_ = true;
    to_worker_.post_if_open(worker_protocol::drain());
  }
}

COHORT_INLINE asio::awaitable<void> primary_link::listen() {
  for (std::size_t i = 0; i < options_.listen.size() && !leaving_; ++i) {
    co_await listen_at(static_cast<std::uint32_t>(i), options_.listen[i]);
  }
}

COHORT_INLINE asio::awaitable<void> primary_link::listen_at(std::uint32_t number, const std::string& where) {
  json fields = query_for(where);
  json query = fields;
  query["act"] = "queryServer";
  auto answer = co_await ask(std::move(query));
  if (!answer) co_return;
  const int error = detail::error_in(answer->value);
  if (leaving_) {
    if (error == 0) say_closed(detail::text_in(answer->value, "key"));
    co_return;
  }
  if (error != 0) throw_error("listen " + where, error);
  if (answer->handle_lost) throw_error("listen " + where, errc::handle_lost);
  fields["port"] = detail::port_of(*answer, fields);
  co_await adopt(number, *answer);
  if (leaving_) co_return;
  fields["act"] = "listening";
  say(detail::cluster_message(std::move(fields), next_number_));
}

COHORT_INLINE asio::awaitable<void> primary_link::adopt(std::uint32_t number, node_message& answer) {
  listeners_[detail::text_in(answer.value, "key")] = number;
  any_handle& socket = answer.handle.object;
  if (!socket) co_return;  // the primary accepts
  worker_protocol::listen order;
  order.listener = number;
  order.grant = 1;
  if (socket.kind() != handle_kind::udp_socket) {
    // Bound, and perhaps nobody listens yet.
    if (system::call.listen(socket.native_handle(), 511) != 0) throw_error("listen", errno);
    const bool local = cohort::detail::domain_of(socket.native_handle()) == AF_UNIX;
    auto listener = std::move(socket).as<descriptor>(tasks_.get_executor());
    socket = any_handle(local ? handle_kind::local_acceptor : handle_kind::tcp_acceptor, std::move(listener));
  }
  try {
    co_await to_worker_.send_handle(order, std::move(socket));
  } catch (...) {
    if (!self_->draining()) throw;
    // It has begun to drain meanwhile, and takes no listener.
  }
}

COHORT_INLINE bool primary_link::has_room() const {
  const std::size_t most = options_.worker.max_connections;
  return most == 0 || self_->open_connections() + arriving_ < most;
}

COHORT_INLINE asio::awaitable<void> primary_link::serve(node_message given) {
  const bool room = has_room();
  const cohort::detail::counted arriving(arriving_);
  json answer = message_with("ack", detail::member_of(given.value, "seq"));
  answer["accepted"] = false;
  if (given.handle_lost) {
    // The descriptor table is full. Node's primary offers the connection again at once, and this is no time to be busy.
    asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(10));
    co_await pause.async_wait(cohort::detail::awaited);
  } else if (room && !leaving_) {
    const bool taken = co_await hand_over(detail::text_in(given.value, "key"), given.handle.object);
    answer["accepted"] = taken;
  }
  given.handle.object = any_handle();
  say(std::move(answer));
  answered_.notify();
}

COHORT_INLINE asio::awaitable<bool> primary_link::hand_over(const std::string& key, any_handle& socket) {
  const auto at = listeners_.find(key);
  const bool is_connection = socket.kind() == handle_kind::tcp_socket || socket.kind() == handle_kind::local_socket;
  if (at == listeners_.end() || !is_connection) co_return false;
  worker_protocol::serve order;
  order.listener = at->second;
  try {
    co_await to_worker_.send_handle(order, std::move(socket));
  } catch (...) {
    const auto error = cohort::detail::caught();
    if (error.code() == operation_aborted()) throw;
    co_return false;  // it drains: the primary has a copy for somebody else
  }
  co_return true;
}

COHORT_INLINE asio::awaitable<void> primary_link::all_answered() {
  while (arriving_ != 0) co_await answered_.wait();
}

COHORT_INLINE void primary_link::close_listeners() {
  leaving_ = true;
  for (const auto& [key, number] : listeners_) say_closed(key);
  listeners_.clear();
}

COHORT_INLINE void primary_link::say_closed(const std::string& key) {
  json message = message_with("act", "close");
  message["key"] = key;
  say(std::move(message));
}

COHORT_INLINE void primary_link::leave() { self_->drain("it leaves by itself"); }

COHORT_INLINE asio::awaitable<int> primary_link::finish(int status) {
  // For Node's primary a worker that says so has left by its own wish, and is not to be replaced.
  const bool says_so = !told_to_leave_ && status != static_cast<int>(worker_exit::fatal);
  try {
    if (!gone_) co_await with_timeout(all_answered(), std::chrono::seconds(1));
    if (!gone_ && says_so) {
      json message = json::object();
      message["act"] = "exitedAfterDisconnect";
      co_await with_timeout(ask_and_forget(std::move(message)), std::chrono::seconds(1));
    }
    if (!gone_) co_await with_timeout(wire_.disconnect(), std::chrono::seconds(1));
  } catch (...) {
    cohort::detail::caught();
    // A primary that is gone, or does not answer, will see the end of the channel.
  }
  wire_.close();
  to_worker_.close();
  co_await tasks_.cancel_and_wait();
  co_return status == static_cast<int>(worker_exit::orphaned) ? 0 : status;
}

COHORT_INLINE asio::awaitable<std::optional<node_message>> primary_link::ask(json message) {
  const std::uint64_t number = next_number_;
  message = detail::cluster_message(std::move(message), next_number_);
  question mine(tasks_.get_executor());
  questions_[number] = &mine;
  const cohort::detail::on_exit forget([&] { questions_.erase(number); });
  co_await wire_.send_internal(message);
  if (!gone_) co_await mine.answered.wait();
  co_return std::move(mine.answer);
}

COHORT_INLINE asio::awaitable<void> primary_link::ask_and_forget(json message) {
  const auto answer = co_await ask(std::move(message));
}

COHORT_INLINE void primary_link::say(json message) { wire_.post_internal(message); }

COHORT_INLINE json primary_link::query_for(const std::string& where) {
  json fields = detail::address_fields(where);
  fields["index"] = indices_[where]++;
  return fields;
}

COHORT_INLINE json primary_link::message_with(const char* name, json value) {
  json message = json::object();
  message[name] = std::move(value);
  return detail::cluster_message(std::move(message), next_number_);
}

}  // namespace cohort::node_cluster
