// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/transport/frame.hpp"

#include <cstdint>
#include <cstring>
#include <string>

#include "../../support/harness.hpp"

namespace cohort::test::frame_test {
namespace {

using wire::header;
using wire::kind;

/// A header that a correct peer may send.
header good(wire::kind of, std::uint32_t size, std::uint8_t handles = 0) {
  header result;
  result.size = size;
  result.lane = wire::lane_of(of);
  result.kind = of;
  result.handles = handles;
  return result;
}

PLAIN_TEST("a header is eight bytes, the size lowest first") {
  unsigned char bytes[wire::header_size];
  wire::put_header(bytes, kind::lease, 0x00012345, 1);
  const unsigned char expected[] = {0x45, 0x23, 0x01, 0x00, 1, 5, 1, 0};
  CHECK(std::memcmp(bytes, expected, sizeof bytes) == 0);
}

PLAIN_TEST("a header is read as it was written") {
  for (std::uint8_t of = 1; of <= 10; ++of) {
    CAPTURE(of);
    char bytes[wire::header_size];
    wire::put_header(bytes, static_cast<kind>(of), 77, 9);
    const header read = wire::get_header(bytes);
    CHECK(read.size == 77);
    CHECK(read.kind == static_cast<kind>(of));
    CHECK(read.lane == wire::lane_of(static_cast<kind>(of)));
    CHECK(read.handles == 9);
    CHECK(read.zero == 0);
  }
}

PLAIN_TEST("numbers of any width come back") {
  for (std::size_t bytes = 1; bytes <= 8; ++bytes) {
    char memory[8];
    const std::uint64_t value = 0xfedcba9876543210u >> (64 - 8 * bytes);
    wire::store(memory, value, bytes);
    CHECK(wire::load(memory, bytes) == value);
  }
}

PLAIN_TEST("answers and the hello are in the control lane, all else in the user lane") {
  for (std::uint8_t of = 1; of <= 10; ++of) {
    const auto each = static_cast<kind>(of);
    const bool control = each == kind::hello || each == kind::adopted || each == kind::refused;
    CHECK(wire::lane_of(each) == (control ? wire::lane::control : wire::lane::user));
  }
}

PLAIN_TEST("what a correct peer sends is valid") {
  for (const std::uint32_t size : {0u, 1u, wire::max_frame}) {
    CHECK(wire::is_valid(good(kind::hello, size)));
    CHECK(wire::is_valid(good(kind::message, size)));
    CHECK(wire::is_valid(good(kind::piece, size)));
    CHECK(wire::is_valid(good(kind::withdrawn, size)));
  }
  CHECK(wire::is_valid(good(kind::handles, 0, 1)));
  CHECK(wire::is_valid(good(kind::handles, 0, 253)));
  CHECK(wire::is_valid(good(kind::lease, 11, 1)));
  CHECK(wire::is_valid(good(kind::lease, wire::max_frame, 1)));
  CHECK(wire::is_valid(good(kind::adopted, 8)));
  CHECK(wire::is_valid(good(kind::refused, 9)));
  CHECK(wire::is_valid(good(kind::revoked, 8)));
  CHECK(wire::is_valid(good(kind::goodbye, 0)));
}

PLAIN_TEST("no kind but the ten is valid") {
  for (unsigned of = 0; of <= 255; ++of) {
    header each = good(static_cast<kind>(of), 0);
    if (of >= 1 && of <= 10) continue;
    each.lane = wire::lane::user;
    CHECK_FALSE(wire::is_valid(each));
    each.lane = wire::lane::control;
    CHECK_FALSE(wire::is_valid(each));
  }
}

PLAIN_TEST("a frame in the other lane, or in none, is not valid") {
  for (unsigned of = 1; of <= 10; ++of) {
    for (unsigned lane = 0; lane <= 255; ++lane) {
      header each = good(static_cast<kind>(of), 0);
      if (each.kind == kind::handles) each.handles = 1;
      if (each.kind == kind::lease) each.handles = 1, each.size = 11;
      if (each.kind == kind::adopted || each.kind == kind::revoked) each.size = 8;
      if (each.kind == kind::refused) each.size = 9;
      REQUIRE(wire::is_valid(each));
      const bool right = static_cast<wire::lane>(lane) == each.lane;
      each.lane = static_cast<wire::lane>(lane);
      CHECK(wire::is_valid(each) == right);
    }
  }
}

PLAIN_TEST("the last byte of a header is zero") {
  header each = good(kind::message, 10);
  each.zero = 1;
  CHECK_FALSE(wire::is_valid(each));
}

PLAIN_TEST("a size that the kind cannot have is not valid") {
  for (unsigned of = 1; of <= 10; ++of) {
    CHECK_FALSE(wire::is_valid(good(static_cast<kind>(of), wire::max_frame + 1, of == 5 ? 1 : 0)));
  }
  CHECK_FALSE(wire::is_valid(good(kind::handles, 1, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::lease, 10, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::adopted, 7)));
  CHECK_FALSE(wire::is_valid(good(kind::adopted, 9)));
  CHECK_FALSE(wire::is_valid(good(kind::refused, 8)));
  CHECK_FALSE(wire::is_valid(good(kind::refused, 10)));
  CHECK_FALSE(wire::is_valid(good(kind::revoked, 7)));
  CHECK_FALSE(wire::is_valid(good(kind::revoked, 9)));
  CHECK_FALSE(wire::is_valid(good(kind::goodbye, 1)));
}

PLAIN_TEST("a number of handles that the kind cannot have is not valid") {
  CHECK_FALSE(wire::is_valid(good(kind::hello, 10, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::message, 10, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::piece, 10, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::withdrawn, 10, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::handles, 0, 0)));
  CHECK_FALSE(wire::is_valid(good(kind::handles, 0, 254)));
  CHECK_FALSE(wire::is_valid(good(kind::lease, 11, 0)));
  CHECK_FALSE(wire::is_valid(good(kind::lease, 11, 2)));
  CHECK_FALSE(wire::is_valid(good(kind::adopted, 8, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::refused, 9, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::revoked, 8, 1)));
  CHECK_FALSE(wire::is_valid(good(kind::goodbye, 0, 1)));
}

}  // namespace
}  // namespace cohort::test::frame_test
