// SPDX-License-Identifier: BSL-1.0
// A worker that says well-formed things in an order of its own, chosen by a seed: frames of every kind, messages of
// every type, numbers that are known, unknown and reused, handles that are sockets and that are not.
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/codec/codec.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/ipc/transport/frame.hpp"
#include "../../include/cohort/worker/protocol.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::wild_verbs {
namespace {

class wild {
 public:
  wild(descriptor socket, std::uint32_t seed)
      : socket_(std::move(socket)), random_(seed), kinds_(any(3) == 0 ? ~0u : random_()), own_numbers_(any(2) == 0) {}

  /// Speaks until the primary has enough of it.
  void run(std::size_t most) {
    byte_buffer hello;
    encode(hello, make_hello<worker_protocol::to_parent, worker_protocol::to_child>(1 << 20));
    write(frame(wire::kind::hello, hello.view()));
    if (any(8) != 0) write(message(worker_protocol::ready()));
    for (std::size_t i = 0; i < most; ++i) {
      write(one());
      if (any(16) == 0) read();
    }
  }

 private:
  std::uint32_t any(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  /// Mostly one that is in use, if any is.
  std::uint64_t id() {
    if (own_numbers_) return ++last_;
    switch (any(6)) {
      case 0: return ++last_ + 1000;
      case 1: return ~std::uint64_t{0} - any(3);
      case 2: return last_ == 0 ? 1 : any(static_cast<std::uint32_t>(last_)) + 1;
      default: return ++last_;
    }
  }

  static std::string little(std::uint64_t value, std::size_t bytes) {
    std::string result(bytes, '\0');
    wire::store(result.data(), value, bytes);
    return result;
  }

  static std::string frame(wire::kind kind, std::string_view payload = {}, std::uint8_t handles = 0) {
    std::string result(wire::header_size, '\0');
    wire::put_header(result.data(), kind, static_cast<std::uint32_t>(payload.size()), handles);
    return result.append(payload);
  }

  template <class M>
  static std::string body(const M& what) {
    byte_buffer to;
    encode(to, what);
    return little(message_set<worker_protocol::to_parent>::index_of<M>, 2).append(to.view());
  }

  template <class M>
  static std::string message(const M& what) {
    return frame(wire::kind::message, body(what));
  }

  std::string text() { return std::string(any(4) == 0 ? any(100'000) : any(40), static_cast<char>(any(256))); }

  routed_message letter() {
    routed_message result;
    result.to = static_cast<std::uint8_t>(any(10));
    result.number = static_cast<std::int64_t>(any(5));
    if (any(2) == 0) result.name = text();
    result.from.slot = any(4);
    result.type = random_();
    result.body = text();
    return result;
  }

  /// The body of a message of any type.
  std::string any_body() {
    switch (any(10)) {
      case 0: return body(worker_protocol::ready());
      case 1: {
        worker_protocol::pong what;
        what.number = any(20);
        what.served = random_();
        what.open = any(1000);
        what.memory = random_();
        return body(what);
      }
      case 2: {
        worker_protocol::ended what;
        what.connections = random_();
        return body(what);
      }
      case 3: {
        worker_protocol::failed what;
        what.what = text();
        return body(what);
      }
      case 4: return body(letter());
      case 5: return body(receipt());
      case 6: return body(worker_protocol::job_result());
      case 7: {
        worker_protocol::connect_request what;
        what.to = static_cast<std::uint8_t>(any(10));
        what.number = any(5);
        return body(what);
      }
      case 8: {
        worker_protocol::counted what;
        what.name = any(2) == 0 ? text() : "c" + std::to_string(any(100));
        what.value = any(2) == 0 ? random_() : any(1000);
        return body(what);
      }
      default: {
        worker_protocol::draining what;
        what.reason = text();
        return any(20) == 0 ? body(what) : body(letter());
      }
    }
  }

  std::string envelope(wire::envelope which, std::string_view rest = {}) {
    return frame(wire::kind::message, little(static_cast<std::uint64_t>(which), 2) + little(id(), 8).append(rest));
  }

  std::string one() {
    std::uint32_t which = any(20);
    while ((kinds_ & 1u << which) == 0 && which != 0) which = any(20);
    switch (which) {
      case 0:
      case 1:
      case 2: return frame(wire::kind::message, any_body());
      case 3:
      case 4:
      case 5: return envelope(wire::envelope::request, any_body());
      case 6: return envelope(wire::envelope::cancel);
      case 7: return envelope(wire::envelope::reply, any_body());
      case 8: return envelope(wire::envelope::progress, any_body());
      case 9: return envelope(wire::envelope::failure, little(any(4), 1) + text());
      case 10: return frame(wire::kind::adopted, little(id(), 8));
      case 11: return frame(wire::kind::refused, little(id(), 8) + little(any(6), 1));
      case 12: return frame(wire::kind::revoked, little(id(), 8));
      case 13: return frame(wire::kind::withdrawn, any_body());
      case 14: return frame(wire::kind::piece, any_body());
      case 15:
      case 16:
      case 17: return with_handle();
      case 18: return any(30) == 0 ? frame(wire::kind::goodbye) : frame(wire::kind::message, any_body());
      default: return any(30) == 0 ? text() : envelope(wire::envelope::request, body(letter()));
    }
  }

  std::string with_handle() {
    handles_ = any(4) == 0 ? any(3) + 1 : 1;
    const std::string head = frame(wire::kind::handles, {}, static_cast<std::uint8_t>(handles_));
    worker_protocol::connect_request whom;
    whom.to = static_cast<std::uint8_t>(any(10));
    whom.number = any(5);
    const std::string rest = any(3) == 0 ? any_body() : body(whom);
    if (any(3) == 0) {
      return head + frame(wire::kind::parcel, little(id(), 8) + rest, static_cast<std::uint8_t>(handles_));
    }
    return head + frame(wire::kind::lease, little(id(), 8) + little(any(8), 1) + rest, 1);
  }

  void write(std::string_view bytes) {
    descriptor kept[4];
    int numbers[4];
    const auto count = std::exchange(handles_, 0);
    for (std::size_t i = 0; i < count; ++i) {
      kept[i] = any(3) == 0 ? descriptor(::dup(socket_.get())) : make_channel_pair().first;
      numbers[i] = kept[i].get();
    }
    for (bool first = count != 0; !bytes.empty();) {
      iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof numbers)] = {};
      if (std::exchange(first, false)) {
        message.msg_control = ancillary;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        std::memcpy(CMSG_DATA(header), numbers, count * sizeof(int));
      }
      const auto sent = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN) {
        pollfd room{socket_.get(), POLLIN | POLLOUT, 0};
        if (::poll(&room, 1, 200) == 0) ::_exit(0);  // it is not read any more, and so has been stopped
        read();
        if (message.msg_control != nullptr) first = true;
      } else {
        ::_exit(0);
      }
    }
  }

  /// Drops what the primary says, with its descriptors; ends when it has closed.
  void read() {
    char bytes[8192], ancillary[CMSG_SPACE(64 * sizeof(int))];
    for (;;) {
      iovec part{bytes, sizeof bytes};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = ancillary;
      message.msg_controllen = sizeof ancillary;
      const auto got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (got == 0 || (got < 0 && errno != EAGAIN)) ::_exit(0);
      if (got < 0) return;
      for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        for (std::size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
          int number = -1;
          std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof number);
          ::close(number);
        }
      }
    }
  }

  descriptor socket_;
  std::mt19937 random_;
  std::uint32_t kinds_;  // which of one() this seed says: few of them keep a channel open for longer
  bool own_numbers_;     // rising, as they must
  std::uint64_t last_ = 0;
  std::size_t handles_ = 0;
};

// `wild`: the wild one if there is a seed in COHORT_TEST_SEED, else an honest worker.
const verb wild_verb("wild", [](const verb::arguments&) {
  const char* const seed = std::getenv("COHORT_TEST_SEED");
  if (seed == nullptr) {
    worker_options options;
    options.idle_grace = std::chrono::milliseconds(1);
    return run_worker(&serve_lines, options);
  }
  wild here(detail::take_parent_channel(), static_cast<std::uint32_t>(std::strtoul(seed, nullptr, 10)));
  here.run(2000);
  return 0;
});

}  // namespace
}  // namespace cohort::test::wild_verbs
