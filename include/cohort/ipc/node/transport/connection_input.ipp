// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection.hpp"

#include "../../../core/config.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <sys/socket.h>

#include "../../../core/error.hpp"
#include "../../../core/system.hpp"

namespace cohort::detail {

inline constexpr std::size_t node_read_size = 64 * 1024;
inline constexpr std::size_t max_unclaimed = 64;     // descriptors of messages that are not whole
inline constexpr std::size_t max_descriptors = 253;  // of one sendmsg (SCM_MAX_FD)

COHORT_INLINE bool node_connection::should_read() const {
  if (!socket_.is_open() || ended_) return false;
  if (!outbox_.is_idle()) return true;
  return inbox_.bytes() < options_.high_water && held_acks_ == 0;
}

COHORT_INLINE void node_connection::read_on() {
  if (reading_ || !should_read()) return;
  reading_ = true;
  socket_.async_wait(asio::posix::stream_descriptor::wait_read, [this, alive = shared_from_this()](std::error_code e) {
    reading_ = false;
    if (!e) on_readable();
  });
}

COHORT_INLINE void node_connection::on_readable() {
  constexpr int reads_a_turn = 16;  // a peer that writes as fast as this reads would else hold the loop
  try {
    for (int reads = 0; reads < reads_a_turn && should_read(); ++reads) {
      const auto outcome = read_once();
      if (outcome == read_outcome::empty) break;
      if (outcome == read_outcome::end) {
        on_end();
        break;
      }
      take_messages();
    }
  } catch (...) {
    break_off(std::current_exception());
  }
  if (socket_.is_open()) flush_now();  // the answers, and what an acknowledgement has let go
  read_on();
}

COHORT_INLINE node_connection::read_outcome node_connection::read_once() {
  const auto room = framer_.prepare(node_read_size);
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(max_descriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const ssize_t size =
      system::retry(system::call.recvmsg, socket_.native_handle(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) {
    if (errno == EAGAIN) return read_outcome::empty;
    if (errno == ECONNRESET) return read_outcome::end;  // the peer has closed without reading all that was sent to it
    throw_error("receive", errno);
  }
  keep_descriptors(message);
  if (size == 0) return read_outcome::end;
  framer_.commit(static_cast<std::size_t>(size));
  return read_outcome::data;
}

COHORT_INLINE void node_connection::keep_descriptors(const msghdr& message) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
       each = CMSG_NXTHDR(const_cast<msghdr*>(&message), each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t index = 0; index < count; ++index) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + index * sizeof fd, sizeof fd);
      descriptor kept(fd);
      if (unclaimed_.size() < max_unclaimed) unclaimed_.push_back(std::move(kept));
    }
  }
}

COHORT_INLINE void node_connection::take_messages() {
  const std::size_t limit = std::size_t{2} * options_.max_message + options_.high_water;
  while (const auto frame = framer_.next()) {
    const std::size_t size = frame->size();
    try {
      on_message(framer_.decode(*frame), size);
    } catch (const std::system_error& error) {
      if (error.code() != errc::malformed) throw;
      inbox_.put(std::current_exception());  // the next one begins where it should all the same
      messages_.notify();
    }
    if (inbox_.bytes() + outbox_.answer_bytes() > limit) {
      throw_error("receive: the peer writes and does not read", ENOBUFS);
    }
    if (!socket_.is_open()) return;
  }
  // Descriptors came with the first byte of their message: nothing that is still to come is theirs.
  if (!framer_.has_begun()) unclaimed_.clear();
}

COHORT_INLINE void node_connection::on_message(json value, std::size_t size) {
  if (!is_node_internal(value)) {
    inbox_.put(node_message{std::move(value), {}}, size);
    messages_.notify();
  } else if (value["cmd"] == "NODE_HANDLE") {
    on_handle(std::move(value), size);
  } else {
    on_internal(std::move(value), size, {});
  }
}

COHORT_INLINE void node_connection::on_handle(json envelope, std::size_t size) {
  // A peer that sends handles without waiting for the answer to the first gets back what there is no room for.
  if (unclaimed_.empty() || held_acks_ >= options_.max_handles) {
    if (!unclaimed_.empty()) unclaimed_.pop_front();
    answer("NODE_HANDLE_NACK");
    put_lost(envelope, size);
    return;
  }
  descriptor fd = std::move(unclaimed_.front());
  unclaimed_.pop_front();
  // Node wraps a message that it sends again once more, and expects one answer.
  for (;;) {
    const auto inner = envelope.find("msg");
    if (inner == envelope.end() || !is_node_internal(*inner) || (*inner)["cmd"] != "NODE_HANDLE") break;
    json unwrapped = std::move(*inner);
    envelope = std::move(unwrapped);
  }
  const auto text_of = [&envelope](const char* name) {
    const auto member = envelope.find(name);
    return member != envelope.end() && member->is_string() ? member->get<std::string>() : std::string();
  };
  const auto type = node_handle_type_of(text_of("type"));
  // A server may arrive bound only; whoever gets it listens. One that listens already keeps its backlog.
  constexpr int backlog = 511;
  if (type == node_handle_type::server && socket_option(fd.get(), SO_ACCEPTCONN) == 0) {
    system::call.listen(fd.get(), backlog);
  }
  node_handle handle;
  const auto kind = kind_of(fd.get());
  if (type == node_handle_type::socket) {
    handle.key = text_of("key");
    if (!handle.key.empty()) counts_.add(handle.key, fd.get());
  }
  handle.object = any_handle(kind, std::move(fd));
  if (type) handle.type = *type;
  const auto body = envelope.find("msg");
  json message = body == envelope.end() ? json() : std::move(*body);
  const bool internal = is_node_internal(message);
  if (!type) {
    answer("NODE_HANDLE_ACK");
    throw_error("receive: a handle of type \"" + text_of("type") + "\", which Node does not have", errc::malformed);
  }
  if (internal) {
    on_internal(std::move(message), size, std::move(handle));
  } else {
    inbox_.put(node_message{std::move(message), std::move(handle)}, size);
    messages_.notify();
  }
  if (inbox_.handles() > options_.max_handles) {
    ++held_acks_;
  } else {
    answer("NODE_HANDLE_ACK");
  }
}

COHORT_INLINE void node_connection::put_lost(json& envelope, std::size_t size) {
  const auto type = envelope.find("type");
  const auto message = envelope.find("msg");
  const bool repeats = type != envelope.end() && *type == to_string(node_handle_type::socket);
  if (!options_.cluster || repeats || message == envelope.end() || !is_node_internal(*message) ||
      (*message)["cmd"] != "NODE_CLUSTER") {
    return;
  }
  node_message lost;
  lost.value = std::move(*message);
  lost.handle_lost = true;
  inbox_.put(std::move(lost), size, true);
  internals_.notify();
}

COHORT_INLINE void node_connection::on_internal(json value, std::size_t size, node_handle handle) {
  const auto cmd = value["cmd"].get<std::string>();
  if (cmd == "NODE_CLUSTER") {
    if (!options_.cluster) return;
    inbox_.put(node_message{std::move(value), std::move(handle)}, size, true);
    internals_.notify();
  } else if (handle) {
    return;  // what Node says of handles and sockets comes without one
  } else if (cmd == "NODE_HANDLE_ACK") {
    outbox_.on_ack();
  } else if (cmd == "NODE_HANDLE_NACK") {
    outbox_.on_nack();
  } else if (cmd == "NODE_SOCKET_GET_COUNT") {
    on_count(value, false);
  } else if (cmd == "NODE_SOCKET_NOTIFY_CLOSE") {
    on_count(value, true);
  }
}

COHORT_INLINE void node_connection::on_count(const json& value, bool at_close) {
  const auto key = value.find("key");
  if (key == value.end() || !key->is_string()) return;
  const auto& name = key->get_ref<const std::string&>();
  const std::size_t count = counts_.count(name);
  json reply = json::object();
  reply["key"] = name;
  if (!at_close) {
    reply["cmd"] = "NODE_SOCKET_COUNT";
    reply["count"] = count;
  } else if (count == 0) {
    reply["cmd"] = "NODE_SOCKET_ALL_CLOSED";
  } else {
    counts_.watch(name);
    look_for_closed();
    return;
  }
  say(std::move(reply));
}

COHORT_INLINE void node_connection::look_for_closed() {
  // The kernel tells nobody that a descriptor has been closed. A server that closes waits for this, and no request
  // does.
  constexpr std::chrono::milliseconds often(20);
  for (const auto& key : counts_.take_closed()) {
    json message = json::object();
    message["cmd"] = "NODE_SOCKET_ALL_CLOSED";
    message["key"] = key;
    say(std::move(message));
  }
  if (!counts_.is_watching() || !socket_.is_open()) return;
  closed_timer_.expires_after(often);
  closed_timer_.async_wait([this, alive = shared_from_this()](std::error_code error) {
    if (error || !socket_.is_open()) return;
    look_for_closed();
    flush_now();
  });
}

COHORT_INLINE void node_connection::say(json message) {
  if (!leaving_) queue(to_node_frame(message, options_), true);
}

COHORT_INLINE void node_connection::answer(std::string_view cmd) {
  json message = json::object();
  message["cmd"] = cmd;
  outbox_.answer(to_node_frame(message, options_));
}

COHORT_INLINE void node_connection::acknowledge_held() {
  if (held_acks_ == 0 || inbox_.handles() > options_.max_handles || !socket_.is_open()) return;
  while (held_acks_ != 0) {
    --held_acks_;
    answer("NODE_HANDLE_ACK");
  }
  flush_soon();
}

}  // namespace cohort::detail
