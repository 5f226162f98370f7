// SPDX-License-Identifier: BSL-1.0
/// An outbox and an inbox on the two ends of a socket pair, without a loop: what one writes, the other reads.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../../../include/cohort/ipc/channel_pair.hpp"
#include "../../../include/cohort/ipc/transport/inbox.hpp"
#include "../../../include/cohort/ipc/transport/outbox.hpp"
#include "../../support/fault.hpp"
#include "../../support/harness.hpp"

namespace cohort::test {

using detail::inbox;
using detail::outbox;

/// What an inbox has found, in order, in words.
struct heard {
  std::vector<std::string> words;
  std::vector<detail::arrived_lease> leases;
  std::function<void(const detail::arrived_lease&)> instead;  // of keeping it

  void on_hello(const char* data, std::size_t size) { words.push_back("hello " + std::string(data, size)); }
  void on_adopted(std::uint64_t id) { words.push_back("adopted " + std::to_string(id)); }
  void on_refused(std::uint64_t id, wire::refusal) { words.push_back("refused " + std::to_string(id)); }
  void on_revoked(std::uint64_t id) { words.push_back("revoked " + std::to_string(id)); }
  void on_goodbye() { words.push_back("goodbye"); }
  void on_lease(detail::arrived_lease lease) {
    words.push_back("lease " + std::to_string(lease.id) + (lease.fd ? "" : " lost"));
    if (instead) return instead(lease);
    leases.push_back(std::move(lease));
  }
  bool on_parcel(const detail::arrived_parcel& parcel) {
    words.push_back("parcel " + std::to_string(parcel.id));
    return true;
  }
  void on_answer(wire::envelope, std::uint64_t id, const inbox::stored&) {
    words.push_back("answer " + std::to_string(id));
  }
  void on_cancel(std::uint64_t id) { words.push_back("cancel " + std::to_string(id)); }
  void on_ring(const descriptor&, std::uint64_t capacity) { words.push_back("ring " + std::to_string(capacity)); }
  void on_pool(descriptor, std::uint64_t) {}
  void on_loan(const char*, std::size_t) {}
  void on_returned(std::uint64_t) {}
};

struct boxes {
  explicit boxes(std::uint32_t max_message = 64 * 1024 * 1024) : in(max_message) {
    out.control(wire::kind::hello, "", 0);  // goes alone, as that of a channel
    pass();
  }

  std::pair<descriptor, descriptor> ends = make_channel_pair();
  detail::byte_transport to{ends.first.get()}, from{ends.second.get()};
  outbox out;
  inbox in;
  heard sink;

  /// Queues a message: two bytes of type, as a channel writes them, and the text.
  outbox::ticket say(const std::string& text) {
    byte_buffer payload;
    const std::string all = "\1" + std::string(1, '\0') + text;
    std::memcpy(payload.grow(all.size()), all.data(), all.size());
    return out.append(wire::kind::message, std::move(payload));
  }

  outbox::ticket lease(std::uint64_t id, int fd, std::size_t size = 0) {
    byte_buffer payload;
    char* head = payload.grow(11 + size);
    std::memset(head, 'x', 11 + size);
    wire::store(head, id, 8);
    head[8] = static_cast<char>(handle_kind::descriptor);
    return out.append_handles(wire::kind::lease, payload, std::span<const int>(&fd, 1));
  }

  void revoke(std::uint64_t id) {
    byte_buffer payload;
    wire::store(payload.grow(8), id, 8);
    out.append(wire::kind::revoked, std::move(payload));
  }

  void adopt(std::uint64_t id) {
    char payload[8];
    wire::store(payload, id, 8);
    out.control(wire::kind::adopted, payload, sizeof payload);
  }

  outbox::outcome write() { return out.write(to); }

  /// Reads all that is there.
  inbox::outcome read() {
    for (;;) {
      const auto outcome = in.read(from, sink);
      if (outcome == inbox::outcome::empty || outcome == inbox::outcome::end) return outcome;
    }
  }

  /// Writes and reads until nothing is left to write.
  void pass() {
    auto written = write();
    for (; written == outbox::outcome::blocked; written = write()) read();
    REQUIRE(written == outbox::outcome::done);
    read();
  }

  /// The next message; none if there is none.
  std::optional<std::string> take() {
    if (!in.has_message()) return std::nullopt;
    const auto& first = in.first_message();
    std::string result(first.data + 2, first.size - 2);
    in.pop_message();
    return result;
  }

  std::vector<std::string> take_all() {
    std::vector<std::string> result;
    while (auto each = take()) result.push_back(std::move(*each));
    return result;
  }
};

/// Sends and receives one byte at a time, whatever is asked for.
struct byte_by_byte {
  intercept<&system::calls::sendmsg> sending{[](auto real, int fd, const msghdr* message, int flags) {
    msghdr part = *message;
    iovec one = first_byte(part);
    part.msg_iov = &one;
    part.msg_iovlen = 1;
    return real(fd, &part, flags);
  }};
  intercept<&system::calls::recvmsg> receiving{[](auto real, int fd, msghdr* message, int flags) {
    const iovec whole = message->msg_iov[0];
    const auto parts = std::exchange(message->msg_iovlen, 1);
    message->msg_iov[0].iov_len = 1;
    const auto got = real(fd, message, flags);
    message->msg_iov[0] = whole;
    message->msg_iovlen = parts;
    return got;
  }};

 private:
  static iovec first_byte(const msghdr& message) {
    for (std::size_t i = 0; i < message.msg_iovlen; ++i) {
      if (message.msg_iov[i].iov_len != 0) return {message.msg_iov[i].iov_base, 1};
    }
    return {};
  }
};

}  // namespace cohort::test
