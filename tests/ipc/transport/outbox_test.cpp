// SPDX-License-Identifier: BSL-1.0
// The bytes and descriptors that an outbox writes, as they arrive at a socket; of an outbox and an inbox together see
// link_test.cpp.
#include "../../../include/cohort/ipc/transport/outbox.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <sys/socket.h>

#include "../../../include/cohort/core/descriptor.hpp"
#include "../../../include/cohort/ipc/channel_pair.hpp"
#include "../../support/harness.hpp"

namespace cohort::test::outbox_test {
namespace {

using detail::outbox;
using wire::kind;

struct frame {
  wire::kind kind;
  std::string payload;
  unsigned handles;

  bool operator==(const frame&) const = default;
};

byte_buffer bytes_of(const std::string& text) {
  byte_buffer result;
  if (!text.empty()) std::memcpy(result.grow(text.size()), text.data(), text.size());
  return result;
}

/// An outbox, and what has been read at the other end of its socket.
struct line {
  std::pair<descriptor, descriptor> ends = make_channel_pair();
  detail::byte_transport to{ends.first.get()};
  outbox out;
  std::string bytes;
  std::vector<descriptor> came;

  outbox::ticket say(const std::string& text) { return out.append(kind::message, bytes_of(text)); }

  outbox::outcome write() { return out.write(to); }

  void read() {
    std::vector<char> buffer(64 * 1024);
    for (;;) {
      alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))];
      iovec part{buffer.data(), buffer.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = ancillary;
      message.msg_controllen = sizeof ancillary;
      const auto got = ::recvmsg(ends.second.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (got <= 0) return;
      bytes.append(buffer.data(), static_cast<std::size_t>(got));
      for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
        for (std::size_t i = 0; i < (each->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(each) + i * sizeof(int), sizeof fd);
          came.emplace_back(fd);
        }
      }
    }
  }

  /// Takes the whole frames that have been read.
  std::vector<frame> frames() {
    read();
    std::vector<frame> result;
    std::size_t at = 0;
    while (bytes.size() - at >= wire::header_size) {
      const auto header = wire::get_header(bytes.data() + at);
      if (bytes.size() - at < wire::header_size + header.size) break;
      result.push_back({header.kind, bytes.substr(at + wire::header_size, header.size), header.handles});
      at += wire::header_size + header.size;
    }
    bytes.erase(0, at);
    return result;
  }
};

PLAIN_TEST("a message is a frame, and its ticket is completed when the kernel has it") {
  line l;
  CHECK(l.out.empty());
  const auto ticket = l.say("text");
  CHECK(ticket == 1);
  CHECK(l.out.appended() == 1);
  CHECK(l.out.begun() == 0);
  CHECK(l.out.waiting_bytes() == wire::header_size + 4);
  CHECK(l.write() == outbox::outcome::done);
  CHECK(l.out.begun() == 1);
  CHECK(l.out.completed() == 1);
  CHECK(l.out.waiting_bytes() == 0);
  CHECK(l.out.empty());
  CHECK(l.frames() == std::vector<frame>{{kind::message, "text", 0}});
}

PLAIN_TEST("the control lane goes first, whatever was queued before") {
  line l;
  l.say("user");
  l.out.control(kind::adopted, "12345678", 8);
  CHECK(l.write() == outbox::outcome::done);
  CHECK(l.frames() == std::vector<frame>{{kind::adopted, "12345678", 0}, {kind::message, "user", 0}});
}

PLAIN_TEST("a message that is taken back goes as nothing in its place, and only before it has begun") {
  line l;
  l.say("first");
  const auto second = l.say("second");
  l.say("third");
  CHECK(l.out.withdraw(second));
  CHECK(l.write() == outbox::outcome::done);
  CHECK_FALSE(l.out.withdraw(second));
  const auto frames = l.frames();
  REQUIRE(frames.size() == 3);
  CHECK(frames[0] == frame{kind::message, "first", 0});
  CHECK(frames[1].kind == kind::withdrawn);
  CHECK(frames[2] == frame{kind::message, "third", 0});
}

PLAIN_TEST("a large message that is taken back is not written at all") {
  line l;
  const auto large = l.say(std::string(100'000, 'x'));
  CHECK(l.out.withdraw(large));
  CHECK(l.out.waiting_bytes() == 0);
  CHECK(l.write() == outbox::outcome::done);
  CHECK(l.frames().empty());
  CHECK(l.out.completed() == large);
}

PLAIN_TEST("a message larger than a frame goes in pieces, the last of which is the message") {
  line l;
  const std::string large(2 * wire::max_frame + 5, 'x');
  l.say(large);
  std::vector<frame> frames;
  auto outcome = l.write();
  for (; outcome != outbox::outcome::done; outcome = l.write()) {
    for (auto& each : l.frames()) frames.push_back(std::move(each));
  }
  for (auto& each : l.frames()) frames.push_back(std::move(each));
  REQUIRE(frames.size() == 3);
  std::string whole;
  for (const auto& each : frames) whole += each.payload;
  CHECK(whole == large);
  CHECK(frames[0].kind == kind::piece);
  CHECK(frames[1].kind == kind::piece);
  CHECK(frames[2].kind == kind::message);
  CHECK(frames[2].payload.size() == 5);
}

PLAIN_TEST("descriptors go with a frame that announces them, in front of the frames that take them") {
  line l;
  const descriptor first(::eventfd(1, EFD_CLOEXEC)), second(::eventfd(2, EFD_CLOEXEC));
  for (const auto* each : {&first, &second}) {
    const int fd = each->get();
    l.out.append_handles(kind::lease, bytes_of("lease"), std::span<const int>(&fd, 1));
  }
  CHECK(l.write() == outbox::outcome::done);
  CHECK(l.frames() == std::vector<frame>{{kind::handles, "", 2}, {kind::lease, "lease", 1}, {kind::lease, "lease", 1}});
  REQUIRE(l.came.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    eventfd_t value = 0;
    ::eventfd_read(l.came[i].get(), &value);
    CHECK(value == i + 1);
  }
}

PLAIN_TEST("a lease that is taken back takes its descriptor along") {
  line l;
  const descriptor object(::eventfd(1, EFD_CLOEXEC));
  const int fd = object.get();
  const auto ticket = l.out.append_handles(kind::lease, bytes_of("lease"), std::span<const int>(&fd, 1));
  CHECK(l.out.withdraw(ticket));
  CHECK(l.write() == outbox::outcome::done);
  for (const auto& each : l.frames()) CHECK(each.kind == kind::withdrawn);
  CHECK(l.came.empty());
}

PLAIN_TEST("a socket that is full stops the writing, which goes on where it was") {
  line l;
  std::vector<frame> expected;
  outbox::ticket last = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string text = std::to_string(i) + std::string(5'000, 'x');
    last = l.say(text);
    expected.push_back({kind::message, text, 0});
  }
  CHECK(l.write() == outbox::outcome::blocked);
  CHECK(l.out.completed() < last);
  CHECK(l.out.waiting_bytes() > 0);
  std::vector<frame> frames;
  auto outcome = outbox::outcome::blocked;
  for (; outcome != outbox::outcome::done; outcome = l.write()) {
    for (auto& each : l.frames()) frames.push_back(std::move(each));
  }
  for (auto& each : l.frames()) frames.push_back(std::move(each));
  CHECK(frames == expected);
  CHECK(l.out.completed() == last);
  CHECK(l.out.waiting_bytes() == 0);
}

PLAIN_TEST("a mark completes behind all that was queued before it, in both lanes") {
  line l;
  const auto said = l.say("text");
  CHECK(l.out.mark() == said);
  l.out.control(kind::adopted, "12345678", 8);
  const auto mark = l.out.mark();
  CHECK(mark > said);
  CHECK(l.write() == outbox::outcome::done);
  CHECK(l.out.completed() == mark);
}

PLAIN_TEST("a peer that is gone is a failure, with its errno") {
  line l;
  l.ends.second.reset();
  l.say("text");
  CHECK(l.write() == outbox::outcome::failed);
  CHECK(errno == EPIPE);
  CHECK(l.out.completed() == 0);
}

}  // namespace
}  // namespace cohort::test::outbox_test
