// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/transport/link.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "../codec/boxes.hpp"

namespace cohort::test::link_test {
namespace {

using strings = std::vector<std::string>;

std::string pattern(std::size_t size, unsigned seed = 0) {
  std::string result(size, '\0');
  for (std::size_t i = 0; i < size; ++i) result[i] = static_cast<char>((i * 31 + i / 253 + seed) & 0xff);
  return result;
}

PLAIN_TEST("messages arrive whole and in order, whatever their size") {
  constexpr std::size_t worth_a_copy = 16 * 1024, frame = wire::max_frame;
  boxes both;
  strings said;
  for (const std::size_t size : {worth_a_copy - 1, worth_a_copy, worth_a_copy + 1, frame - 1, frame, frame + 1,
                                 2 * frame, 2 * frame + 1, std::size_t{1024 * 1024}}) {
    said.push_back(pattern(size - 2, static_cast<unsigned>(said.size())));
    both.say(said.back());
    said.push_back("between");
    both.say(said.back());
  }
  both.pass();
  CHECK(both.take_all() == said);
  CHECK(both.out.empty());
  CHECK(both.out.waiting_bytes() == 0);
  CHECK(both.in.stored_bytes() == 0);
}

PLAIN_TEST("many small messages go in one call") {
  boxes both;
  for (int i = 0; i < 1000; ++i) both.say(std::to_string(i));
  const intercept<&system::calls::sendmsg> counted(
      [](auto real, int fd, const msghdr* message, int flags) { return real(fd, message, flags); });
  CHECK(both.write() == outbox::outcome::done);
  CHECK(counted.calls() == 1);
  both.read();
  CHECK(both.take_all().size() == 1000);
}

PLAIN_TEST("a frame in the control lane passes what waits in the user lane") {
  boxes both;
  const std::string large = pattern(4 * 1024 * 1024);
  both.say(large);
  CHECK(both.write() == outbox::outcome::blocked);
  both.adopt(7);
  while (both.sink.words.size() == 1) {
    both.read();
    both.write();
  }
  CHECK(both.sink.words.back() == "adopted 7");
  CHECK_FALSE(both.in.has_message());  // it overtook the message, between two pieces of it
  both.pass();
  CHECK(both.take() == large);
}

PLAIN_TEST("a message that is appended in place and turns out large goes in pieces all the same") {
  boxes both;
  const std::string large = "\1" + pattern(3 * wire::max_frame);
  const auto put = [&](byte_buffer& to) { std::memcpy(to.grow(large.size()), large.data(), large.size()); };
  both.say("before");
  both.out.append(wire::kind::message, put);
  both.say("after");
  both.pass();
  CHECK(both.take_all() == strings{"before", large.substr(2), "after"});
}

PLAIN_TEST("what throws while it is appended leaves nothing behind") {
  boxes both;
  const auto failing = [](byte_buffer& to) {
    to.grow(100);
    throw std::runtime_error("no");
  };
  both.say("before");
  const auto bytes = both.out.waiting_bytes();
  CHECK_THROWS_AS(both.out.append(wire::kind::message, failing), std::runtime_error);
  CHECK(both.out.waiting_bytes() == bytes);
  const auto ticket = both.say("after");
  CHECK(ticket == 2);
  both.pass();
  CHECK(both.take_all() == strings{"before", "after"});

  CHECK_THROWS_AS(both.out.append(wire::kind::message, failing), std::runtime_error);
  both.say(pattern(50'000));  // behind a run that has nothing in it
  both.say("last");
  both.pass();
  CHECK(both.take_all() == strings{pattern(50'000), "last"});
  CHECK(both.out.completed() == 4);
}

PLAIN_TEST("a message that has not begun can be taken back, from anywhere in the queue") {
  boxes both;
  both.say(pattern(1024 * 1024));
  CHECK(both.write() == outbox::outcome::blocked);
  strings kept;
  std::vector<outbox::ticket> tickets;
  const auto sizes = {10, 20'000, 30, 40, 300'000, 50, 20'000, 20'000};
  for (const int size : sizes) tickets.push_back(both.say(pattern(static_cast<std::size_t>(size), 7)));
  for (const std::size_t taken : {0u, 1u, 3u, 6u, 7u}) CHECK(both.out.withdraw(tickets[taken]));
  for (const std::size_t left : {2u, 4u, 5u}) kept.push_back(pattern(std::data(sizes)[left], 7));
  both.pass();
  auto arrived = both.take_all();
  CHECK(arrived.at(0).size() == 1024 * 1024);
  arrived.erase(arrived.begin());
  CHECK(arrived == kept);
  CHECK(both.out.completed() == tickets.back());
  CHECK(both.out.waiting_bytes() == 0);
  CHECK(both.out.empty());
}

PLAIN_TEST("a message that has begun cannot be taken back") {
  boxes both;
  const auto large = both.say(pattern(1024 * 1024));
  CHECK(both.write() == outbox::outcome::blocked);
  CHECK_FALSE(both.out.withdraw(large));
  both.pass();
  CHECK_FALSE(both.out.withdraw(large));
  CHECK(both.take_all().size() == 1);
}

PLAIN_TEST("a queue of nothing but taken back messages completes") {
  boxes both;
  both.say(pattern(1024 * 1024));
  CHECK(both.write() == outbox::outcome::blocked);
  const auto first = both.say(pattern(20'000)), second = both.say(pattern(20'000));
  CHECK(both.out.withdraw(second));
  CHECK(both.out.withdraw(first));
  both.pass();
  CHECK(both.out.completed() == second);
  CHECK(both.out.empty());
  CHECK(both.take_all().size() == 1);
}

PLAIN_TEST("a large control frame backlog goes out before the messages") {
  boxes both;
  both.say("message");
  for (std::uint64_t id = 0; id < 40'000; ++id) both.adopt(id);
  both.pass();
  REQUIRE(both.sink.words.size() == 40'001);
  for (std::uint64_t id = 0; id < 40'000; ++id) REQUIRE(both.sink.words[id + 1] == "adopted " + std::to_string(id));
  CHECK(both.take() == "message");
}

PLAIN_TEST("a mark completes with everything that was queued before it, in either lane") {
  boxes both;
  CHECK(both.out.mark() == both.out.completed());
  const auto message = both.say("message");
  CHECK(both.out.mark() == message);
  both.pass();
  CHECK(both.out.mark() == both.out.completed());

  both.adopt(1);
  const auto mark = both.out.mark();
  CHECK(mark > message);
  {
    const fault<&system::calls::sendmsg> full(EAGAIN);
    CHECK(both.write() == outbox::outcome::blocked);
  }
  CHECK(both.out.completed() == message);
  CHECK(both.out.mark() > message);
  both.pass();
  CHECK(both.out.completed() > mark);
  CHECK(both.out.mark() == both.out.completed());
  CHECK(both.sink.words == strings{"hello ", "adopted 1"});
  CHECK(both.take_all() == strings{"message"});
}

PLAIN_TEST("messages stay where they are until they are taken") {
  boxes both;
  for (int round = 0; round < 200; ++round) {
    both.say(pattern(10'000, static_cast<unsigned>(round)));
    both.pass();  // nothing is taken, so that several buffers fill
  }
  CHECK(both.in.stored_bytes() == 200 * 10'002);
  for (unsigned round = 0; round < 200; ++round) REQUIRE(both.take() == pattern(10'000, round));
  CHECK(both.in.stored_bytes() == 0);
  both.say("once more");
  both.pass();
  CHECK(both.take() == "once more");
}

PLAIN_TEST("messages are taken out of a buffer while more is read into it") {
  boxes both;
  unsigned said = 0, taken = 0;
  while (taken < 3000) {
    while (said < 3000 && said - taken < 70) both.say(pattern(1 + said * 37 % 9000, said)), ++said;
    both.pass();
    for (int i = 0; i < 50; ++i) {
      const auto message = both.take();
      if (!message) break;
      REQUIRE(*message == pattern(1 + taken * 37 % 9000, taken));
      ++taken;
    }
  }
  CHECK_FALSE(both.in.has_message());
}

PLAIN_TEST("bytes may come one at a time") {
  boxes both;
  const descriptor given(::eventfd(0, EFD_CLOEXEC));
  const std::string large = pattern(wire::max_frame + 100);
  {
    const byte_by_byte slow;
    both.say("first");
    both.lease(1, given.get());
    both.lease(2, given.get(), 20);
    both.say("second");
    both.adopt(9);
    both.pass();
    both.lease(3, given.get());
    both.say("third");
    both.pass();
  }
  both.say(large);
  {
    const byte_by_byte slow;
    both.write();
    both.adopt(10);
    both.pass();
  }
  CHECK(both.sink.words == strings{"hello ", "adopted 9", "lease 1", "lease 2", "lease 3", "adopted 10"});
  for (const auto& each : both.sink.leases) CHECK(each.fd);
  CHECK(both.take_all() == strings{"first", "second", "third", large});
}

PLAIN_TEST("handles go up to 253 in one call, and in order") {
  for (const std::size_t count : {1u, 64u, 252u, 253u, 254u, 506u, 507u, 1000u}) {
    CAPTURE(count);
    boxes both;
    both.sink.words.clear();
    std::vector<descriptor> files;  // that their offsets tell apart
    for (int i = 0; i < 50; ++i) {
      files.emplace_back(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
      ::lseek(files.back().get(), i, SEEK_SET);
    }
    std::size_t arrived = 0;
    both.sink.instead = [&](const detail::arrived_lease& lease) {
      REQUIRE(lease.id == arrived + 1);
      REQUIRE(::lseek(lease.fd.get(), 0, SEEK_CUR) == static_cast<off_t>(arrived % 50));
      ++arrived;
    };
    for (std::size_t i = 0; i < count; ++i) both.lease(i + 1, files[i % 50].get());
    const intercept<&system::calls::sendmsg> counted(
        [](auto real, int fd, const msghdr* message, int flags) { return real(fd, message, flags); });
    both.pass();
    CHECK(counted.calls() == (count + 252) / 253);
    CHECK(arrived == count);
  }
}

PLAIN_TEST("a lease that has not begun is taken back with its descriptor") {
  boxes both;
  const descriptor first(::eventfd(1, EFD_CLOEXEC)), second(::eventfd(2, EFD_CLOEXEC)),
      third(::eventfd(3, EFD_CLOEXEC));
  both.lease(1, first.get());
  const auto taken_back = both.lease(2, second.get());
  both.lease(3, third.get());
  CHECK(both.out.withdraw(taken_back));
  both.pass();
  REQUIRE(both.sink.leases.size() == 2);
  for (const auto& each : both.sink.leases) {
    eventfd_t value = 0;
    ::eventfd_read(each.fd.get(), &value);
    CHECK(value == each.id);
  }
}

PLAIN_TEST("a refused call leaves handles ours to take back") {
  for (const int error : {EAGAIN, ETOOMANYREFS, ENOBUFS, ENOMEM, EPIPE}) {
    CAPTURE(error);
    boxes both;
    both.adopt(5);
    both.say(pattern(200'000));
    const descriptor given(::eventfd(0, EFD_CLOEXEC));
    both.say("before");
    const auto lease = both.lease(1, given.get());
    const auto after = both.say("after");
    const auto waiting = both.out.waiting_bytes();
    {
      const fault<&system::calls::sendmsg> refused(error);
      const auto outcome = both.write();
      CHECK(outcome == (error == EAGAIN  ? outbox::outcome::blocked
                        : error == EPIPE ? outbox::outcome::failed
                                         : outbox::outcome::starved));
      CHECK(refused.failed() == 1);
    }
    CHECK(both.out.begun() < lease);
    CHECK(both.out.waiting_bytes() == waiting);
    CHECK(both.out.withdraw(lease));
    both.lease(2, given.get());
    both.pass();
    CHECK(both.sink.words == strings{"hello ", "adopted 5", "lease 2"});
    CHECK(both.take_all() == strings{pattern(200'000), "before", "after"});
    CHECK(both.out.completed() == after + 1);
    CHECK(both.out.waiting_bytes() == 0);
  }
}

PLAIN_TEST("a large message that is under way goes on where it was when a call with handles is refused") {
  boxes both;
  const std::string large = pattern(1024 * 1024);
  both.say(large);
  const descriptor given(::eventfd(0, EFD_CLOEXEC));
  both.lease(1, given.get());
  both.say("after");
  unsigned refused = 0;
  const intercept<&system::calls::sendmsg> sending([&](auto real, int fd, const msghdr* message, int flags) -> ssize_t {
    if (message->msg_controllen == 0 || refused == 3) return real(fd, message, flags);
    ++refused;
    errno = EAGAIN;
    return -1;
  });
  both.pass();
  CHECK(refused == 3);
  CHECK(both.sink.words == strings{"hello ", "lease 1"});
  CHECK(both.take_all() == strings{large, "after"});
}

PLAIN_TEST("calls that a signal interrupts are made again") {
  boxes both;
  const fault<&system::calls::sendmsg> sending(EINTR, 1, 3);
  const fault<&system::calls::recvmsg> receiving(EINTR, 1, 3);
  both.say("message");
  both.pass();
  CHECK(sending.failed() == 3);
  CHECK(receiving.failed() == 3);
  CHECK(both.take() == "message");
}

PLAIN_TEST("a reader that is short of memory reads later") {
  for (const int error : {EAGAIN, ENOBUFS, ENOMEM}) {
    boxes both;
    both.say("message");
    both.write();
    {
      const fault<&system::calls::recvmsg> receiving(error);
      CHECK(both.read() == inbox::outcome::empty);
    }
    both.read();
    CHECK(both.take() == "message");
  }
}

PLAIN_TEST("handles that the kernel has dropped are none, and the others are where they belong") {
  boxes both;
  std::vector<descriptor> given;
  for (int i = 1; i <= 5; ++i) {
    given.emplace_back(::eventfd(static_cast<unsigned>(i), EFD_CLOEXEC));
    both.lease(static_cast<std::uint64_t>(i), given.back().get());
  }
  both.write();
  {
    // the kernel puts in those that find room, in order, and drops the rest (unix(7))
    const intercept<&system::calls::recvmsg> small([](auto real, int fd, msghdr* message, int flags) {
      message->msg_controllen = CMSG_SPACE(2 * sizeof(int));
      return real(fd, message, flags);
    });
    both.read();
  }
  CHECK(both.sink.words == strings{"hello ", "lease 1", "lease 2", "lease 3 lost", "lease 4 lost", "lease 5 lost"});
  both.lease(6, given[0].get());
  both.pass();
  CHECK(both.sink.words.back() == "lease 6");
  for (const std::size_t arrived : {0u, 1u}) {
    eventfd_t value = 0;
    ::eventfd_read(both.sink.leases[arrived].fd.get(), &value);
    CHECK(value == arrived + 1);
  }
}

PLAIN_TEST("a call that loses all its handles shifts none of the next one") {
  boxes both;
  const descriptor first(::eventfd(1, EFD_CLOEXEC)), second(::eventfd(2, EFD_CLOEXEC));
  both.lease(1, first.get());
  both.write();
  both.lease(2, second.get());
  both.write();
  bool lost = false;
  const intercept<&system::calls::recvmsg> none([&](auto real, int fd, msghdr* message, int flags) {
    if (!std::exchange(lost, true)) message->msg_controllen = 0;
    return real(fd, message, flags);
  });
  both.read();
  CHECK(both.sink.words == strings{"hello ", "lease 1 lost", "lease 2"});
  eventfd_t value = 0;
  ::eventfd_read(both.sink.leases.at(1).fd.get(), &value);
  CHECK(value == 2);
}

PLAIN_TEST("the end of a stream inside a message is told from one between messages") {
  boxes both;
  both.say("message");
  both.pass();
  CHECK_FALSE(both.in.is_torn());
  both.say(pattern(1024 * 1024));
  CHECK(both.write() == outbox::outcome::blocked);
  both.ends.first.reset();
  CHECK(both.read() == inbox::outcome::end);
  CHECK(both.in.is_torn());
  CHECK(both.take_all() == strings{"message"});
}

PLAIN_TEST("messages that were dropped leave room for others") {
  boxes both;
  for (unsigned i = 0; i < 100; ++i) both.say(pattern(9'000, i));
  both.say(pattern(500'000));
  both.pass();
  both.in.drop_messages();
  CHECK_FALSE(both.in.has_message());
  CHECK(both.in.stored_bytes() == 0);
  both.say("next");
  both.pass();
  CHECK(both.take() == "next");
}

PLAIN_TEST("the ends of a pair are close-on-exec") {
  const auto ends = make_channel_pair();
  CHECK((::fcntl(ends.first.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(ends.second.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

PLAIN_TEST("a pair that cannot be made throws and leaves nothing") {
  const fault<&system::calls::socketpair> failing(EMFILE);
  std::string what;
  try {
    make_channel_pair();
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::error_code(EMFILE, std::system_category()));
    what = error.what();
  }
  CHECK(what.starts_with("channel: socketpair: "));
}

}  // namespace
}  // namespace cohort::test::link_test
