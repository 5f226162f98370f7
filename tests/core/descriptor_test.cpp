// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/descriptor.hpp"

#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "../support/harness.hpp"

namespace cohort::test::descriptor_test {
namespace {

descriptor open_null() { return descriptor(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

}  // namespace

PLAIN_TEST("a descriptor that holds nothing is false and closes nothing") {
  descriptor none;
  CHECK_FALSE(none);
  CHECK(none.get() == -1);
  CHECK(none.release() == -1);
  none.reset();
}

PLAIN_TEST("a descriptor closes what it holds at the end of its scope") {
  int fd = -1;
  {
    const auto held = open_null();
    fd = held.get();
    CHECK(held);
    CHECK(is_open(fd));
  }
  CHECK_FALSE(is_open(fd));
}

PLAIN_TEST("descriptor number 0 is a descriptor like any other") {
  descriptor zero(0);
  CHECK(zero);
  CHECK(zero.release() == 0);
  CHECK(is_open(0));
}

PLAIN_TEST("a moved descriptor has one owner") {
  auto first = open_null();
  const int fd = first.get();
  descriptor second(std::move(first));
  CHECK_FALSE(first);
  CHECK(second.get() == fd);
  CHECK(is_open(fd));
}

PLAIN_TEST("assigning a descriptor closes what was held before") {
  auto target = open_null();
  auto source = open_null();
  const int before = target.get(), after = source.get();
  target = std::move(source);
  CHECK_FALSE(is_open(before));
  CHECK(target.get() == after);
  CHECK_FALSE(source);
}

PLAIN_TEST("a descriptor assigned to itself stays open") {
  auto held = open_null();
  const int fd = held.get();
  auto& same = held;
  held = std::move(same);
  CHECK(held.get() == fd);
  CHECK(is_open(fd));
}

PLAIN_TEST("a released descriptor is the caller's to close") {
  int fd = -1;
  {
    auto held = open_null();
    fd = held.release();
    CHECK_FALSE(held);
  }
  CHECK(is_open(fd));
  ::close(fd);
}

PLAIN_TEST("reset closes what is held and takes another") {
  auto held = open_null();
  const int before = held.get();
  const int after = ::fcntl(before, F_DUPFD_CLOEXEC, 0);
  held.reset(after);
  CHECK_FALSE(is_open(before));
  CHECK(is_open(after));
  held.reset();
  CHECK_FALSE(is_open(after));
}

}  // namespace cohort::test::descriptor_test
