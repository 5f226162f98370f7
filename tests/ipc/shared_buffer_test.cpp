// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/shared_buffer.hpp"

#include <cerrno>
#include <stdexcept>
#include <string>
#include <utility>

#include <unistd.h>

#include "../support/fault.hpp"
#include "../support/harness.hpp"

namespace cohort::test::shared_buffer_test {
namespace {

template <class Attempt>
std::error_code code_of(Attempt attempt) {
  try {
    attempt();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

}  // namespace

PLAIN_TEST("a shared buffer holds what it was filled with, for good") {
  const shared_buffer bytes("some text");
  CHECK(bytes.view() == "some text");
  CHECK(::write(bytes.native_handle(), "x", 1) == -1);
  CHECK(::ftruncate(bytes.native_handle(), 3) == -1);
  CHECK(::ftruncate(bytes.native_handle(), 3000) == -1);
  CHECK(::mmap(nullptr, 9, PROT_READ | PROT_WRITE, MAP_SHARED, bytes.native_handle(), 0) == MAP_FAILED);
  CHECK(bytes.view() == "some text");
}

PLAIN_TEST("a shared buffer may be empty, none, or moved") {
  shared_buffer none;
  CHECK(none.size() == 0);
  CHECK(none.native_handle() == -1);
  shared_buffer empty("");
  CHECK(empty.size() == 0);
  CHECK(empty.native_handle() != -1);
  shared_buffer first("abc");
  shared_buffer second(std::move(first));
  CHECK(first.size() == 0);
  CHECK(second.view() == "abc");
  empty = std::move(second);
  CHECK(empty.view() == "abc");
}

PLAIN_TEST("a shared buffer is made again from its descriptor") {
  shared_buffer original("the same");
  const shared_buffer copy(descriptor(::dup(original.native_handle())));
  CHECK(copy.view() == "the same");
  const descriptor bare = original.release();
  CHECK(original.size() == 0);
  CHECK(copy.view() == "the same");
}

PLAIN_TEST("memory that could still change is no shared buffer") {
  const auto from = [](int fd) { return code_of([fd] { shared_buffer bytes{descriptor(fd)}; }); };
  CHECK(from(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == errc::wrong_handle_kind);
  const int shrinkable = ::memfd_create("shrinkable", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(::fcntl(shrinkable, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW) == 0);
  CHECK(from(shrinkable) == errc::wrong_handle_kind);
  CHECK(from(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)) == errc::wrong_handle_kind);
  CHECK(from(-1) == errc::wrong_handle_kind);
}

PLAIN_TEST("sealed memory that is larger than the receiver wants is refused, whether or not it has holes") {
  const auto sealed = [](off_t size) {
    const int fd = ::memfd_create("sparse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, size) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
    return fd;
  };
  CHECK(code_of([&] { shared_buffer bytes{descriptor(sealed(off_t{16} << 40))}; }) == errc::message_too_large);
  CHECK(code_of([&] { shared_buffer bytes{descriptor(sealed(4097)), 4096}; }) == errc::message_too_large);
  CHECK_FALSE(code_of([&] { shared_buffer bytes{descriptor(sealed(4096)), 4096}; }));
}

PLAIN_TEST("a shared buffer can be received up to a limit") {
  shared_buffer original(10'000, [](std::span<char> to) { to[9'999] = 'x'; });
  const int fd = original.native_handle();
  const shared_buffer copy(descriptor(::dup(fd)), 10'000);
  CHECK(copy.size() == 10'000);
  CHECK(copy.data()[0] == 0);
  CHECK(copy.data()[9'999] == 'x');
  CHECK(code_of([&] { shared_buffer bytes(descriptor(::dup(fd)), 9'999); }) == errc::message_too_large);
}

PLAIN_TEST("what cannot be made says why, and leaves nothing") {
  {
    const fault<&system::calls::memfd_create> none(EMFILE);
    CHECK(code_of([] { shared_buffer bytes("x"); }) == std::error_code(EMFILE, std::system_category()));
  }
  bool threw = false;
  try {
    shared_buffer bytes(10, [](std::span<char>) { throw std::runtime_error("no filling"); });
  } catch (const std::runtime_error&) {
    threw = true;
  }
  CHECK(threw);
  const auto nothing = [](std::span<char>) {};
  CHECK(code_of([&] { shared_buffer bytes(std::size_t{1} << 62, nothing); }) != std::error_code());
}

}  // namespace cohort::test::shared_buffer_test
