// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/system.hpp"

#include <cerrno>

#include "../../include/cohort/core/descriptor.hpp"
#include "../support/fault.hpp"
#include "../support/harness.hpp"

namespace cohort::test::system_test {

PLAIN_TEST("a call that signals interrupt is repeated until it is not") {
  const fault<&system::calls::pipe2> interrupted(EINTR, 1, 3);
  int ends[2];
  REQUIRE(system::retry(system::call.pipe2, ends, O_CLOEXEC) == 0);
  const descriptor reading(ends[0]), writing(ends[1]);
  CHECK(interrupted.failed() == 3);
  CHECK(interrupted.calls() == 4);
}

PLAIN_TEST("a call that fails for another reason is not repeated and keeps its errno") {
  const fault<&system::calls::socketpair> full(EMFILE);
  int ends[2];
  CHECK(system::retry(system::call.socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1);
  CHECK(errno == EMFILE);
  CHECK(full.calls() == 1);
}

PLAIN_TEST("a call that succeeds is made once, whatever errno said before") {
  const fault<&system::calls::duplicate> counted(0, 1, 0);
  errno = EINTR;
  const descriptor copy(system::retry(system::call.duplicate, STDOUT_FILENO, 3));
  CHECK(copy.get() >= 3);
  CHECK(counted.calls() == 1);
  CHECK(counted.failed() == 0);
}

PLAIN_TEST("a duplicate is closed on exec and has the number asked for or a higher one") {
  const descriptor copy(system::call.duplicate(STDOUT_FILENO, 100));
  CHECK(copy.get() >= 100);
  CHECK(::fcntl(copy.get(), F_GETFD) == FD_CLOEXEC);
}

PLAIN_TEST("a fault fails the calls that it was told to fail, and no other") {
  const fault<&system::calls::chdir> refused(EACCES, 2, 1);
  CHECK(system::call.chdir(".") == 0);
  CHECK(system::call.chdir(".") == -1);
  CHECK(errno == EACCES);
  CHECK(system::call.chdir(".") == 0);
}

PLAIN_TEST("the real call is back when the fault is gone") {
  const auto real = system::call.open;
  {
    const fault<&system::calls::open> broken(EIO, 1, every_time);
    CHECK(system::call.open("/dev/null", O_RDONLY, 0) == -1);
    CHECK(system::call.open("/dev/null", O_RDONLY, 0) == -1);
    CHECK(broken.failed() == 2);
  }
  CHECK((system::call.open == real));
}

PLAIN_TEST("an intercepted call can answer with less than the real one") {
  const intercept<&system::calls::recvmsg> truncated([](auto real, int fd, msghdr* message, int flags) {
    const auto size = real(fd, message, flags);
    message->msg_flags |= MSG_CTRUNC;
    return size;
  });
  int ends[2];
  REQUIRE(system::call.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const descriptor here(ends[0]), there(ends[1]);
  REQUIRE(::write(there.get(), "x", 1) == 1);
  char byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  CHECK(system::call.recvmsg(here.get(), &message, MSG_DONTWAIT) == 1);
  CHECK(byte == 'x');
  CHECK((message.msg_flags & MSG_CTRUNC) != 0);
}

}  // namespace cohort::test::system_test
