// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/codec/schema.hpp"
#include "../../../include/cohort/ipc/transport/frame.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "../../support/doctest.hpp"

// Names count here, so these have one. Two builds of a program differ in what they list, or in a hello that is altered.
namespace schema_test {

struct job {
  std::uint64_t from, to;
};
struct outcome {
  double sum;
};
struct twin_of_outcome {
  double sum;
};
struct stop {};

struct node {
  std::uint32_t value;
  std::vector<node> children;
};
struct node_too {
  std::uint32_t other_name;
  std::vector<node_too> inner;
};
struct other_node {
  std::uint32_t value;
  std::vector<std::vector<other_node>> children;
};
struct ping;
struct pong {
  std::unique_ptr<ping> back;
};
struct ping {
  std::unique_ptr<pong> there;
  int hits;
};

enum class level : std::uint8_t { low };

struct part_of_a_name_that_takes_a_lot_of_room_when_there_are_many;

template <std::size_t I, class...>
struct numbered_type {
  std::array<std::uint8_t, I % 7 + 1> bytes;
};

using old_build = std::variant<job, outcome>;
using new_build = std::variant<outcome, stop>;

namespace {

using cohort::codec;
using cohort::fingerprint;
using cohort::message_set;

template <class... T>
bool all_shapes_differ() {
  const std::vector<std::uint64_t> shapes{codec<T>::shape()...};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (shapes[i] == shapes[j]) return false;
    }
  }
  return true;
}

template <class Out, class In>
std::string mismatch(const cohort::hello& theirs) {
  try {
    static_cast<void>(cohort::negotiate<Out, In>(theirs));
  } catch (const std::system_error& error) {
    CHECK(error.code() == cohort::errc::schema_mismatch);
    return error.what();
  }
  return "agreed";
}

std::string hello_error(const cohort::hello& sent, cohort::errc code) {
  cohort::byte_buffer bytes;
  cohort::encode(bytes, sent);
  try {
    static_cast<void>(cohort::decode_hello(bytes.data(), bytes.size()));
  } catch (const std::system_error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "accepted";
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_CASE("the name of a type is the qualified one") {
  CHECK(cohort::detail::type_name<job>() == "schema_test::job");
  CHECK(cohort::detail::type_name<level>() == "schema_test::level");
  CHECK(cohort::detail::type_name<cohort::hello>() == "cohort::hello");
}

TEST_CASE("a fingerprint is the same for every compiler and every build") {
  // Whoever changes these breaks the conversation between programs that were not built together.
  CHECK(fingerprint<job>() == 0xacdd4dd4e2d7d6f4u);
  CHECK(fingerprint<outcome>() == 0xeed293543ad7d20bu);
  CHECK(fingerprint<stop>() == 0x84bfc1f3cb876ef3u);
  CHECK(fingerprint<node>() == 0x4bfe6c8027ca50d5u);
  CHECK(fingerprint<level>() == 0x22b3b6220adda1cbu);
  CHECK(fingerprint<std::string>() == 0xdb35b6217719b163u);
  CHECK(fingerprint<std::uint64_t>() == 0x981caf934e07e0ffu);
  CHECK(fingerprint<cohort::hello>() == 0x14066c02c8618bc5u);
}

TEST_CASE("a fingerprint is of the name and the shape") {
  CHECK(codec<outcome>::shape() == codec<twin_of_outcome>::shape());
  CHECK(fingerprint<outcome>() != fingerprint<twin_of_outcome>());
  CHECK(fingerprint<unsigned long>() == fingerprint<unsigned long long>());
  CHECK(codec<unsigned long>::shape() == codec<unsigned long long>::shape());
  static_assert(fingerprint<job>() != fingerprint<outcome>());
}

TEST_CASE("any change of types, order or number changes the shape") {
  struct base {
    int a;
    double b;
    std::string c;
  };
  struct other_type {
    unsigned a;
    double b;
    std::string c;
  };
  struct other_width {
    std::int64_t a;
    double b;
    std::string c;
  };
  struct other_order {
    double b;
    int a;
    std::string c;
  };
  struct fewer {
    int a;
    double b;
  };
  struct more {
    int a;
    double b;
    std::string c;
    bool d;
  };
  struct grouped {
    fewer first;
    std::string c;
  };
  struct grouped_later {
    int a;
    struct {
      double b;
      std::string c;
    } rest;
  };
  struct inner_changed {
    other_order first;
    std::string c;
  };
  CHECK(all_shapes_differ<base, other_type, other_width, other_order, fewer, more, grouped, grouped_later,
                          inner_changed, stop>());
  struct renamed {
    int x;
    double y;
    std::string z;
  };
  CHECK(codec<base>::shape() == codec<renamed>::shape());
}

TEST_CASE("every kind of value has a shape of its own") {
  CHECK(all_shapes_differ<
        bool, char, signed char, unsigned char, short, int, unsigned, float, double, char16_t, char32_t, level,
        std::string, std::u16string, std::u32string, std::filesystem::path, std::vector<char>, std::vector<bool>,
        std::vector<int>, std::array<int, 2>, std::array<int, 3>, std::array<char, 3>, std::optional<int>,
        std::unique_ptr<int>, std::variant<int>, std::variant<int, char>, std::variant<char, int>, std::tuple<int>,
        std::tuple<int, char>, std::tuple<>, std::map<int, char>, std::map<char, int>, std::set<int>, std::monostate,
        std::chrono::seconds, std::chrono::milliseconds, std::chrono::duration<double>,
        std::chrono::system_clock::time_point, std::chrono::steady_clock::time_point, stop>());
  CHECK(codec<int[2]>::shape() == codec<std::array<int, 2>>::shape());
  CHECK(codec<std::map<int, char>>::shape() == codec<std::unordered_map<int, char>>::shape());
  CHECK(codec<std::pair<int, char>>::shape() == codec<std::tuple<int, char>>::shape());
}

TEST_CASE("a type that contains itself has a shape, which does not depend on names") {
  CHECK(codec<node>::shape() == codec<node_too>::shape());
  CHECK(all_shapes_differ<node, other_node, std::vector<node>, ping, pong>());
}

TEST_CASE("a message set lists the alternatives of a variant, or the single type") {
  using several = message_set<old_build>;
  static_assert(several::size == 2 && !several::is_single);
  static_assert(several::contains<job> && several::contains<outcome> && !several::contains<stop>);
  static_assert(several::index_of<job> == 0 && several::index_of<outcome> == 1);
  CHECK(several::fingerprints == std::array{fingerprint<job>(), fingerprint<outcome>()});
  CHECK(several::names[1] == "schema_test::outcome");

  using single = message_set<job>;
  static_assert(single::size == 1 && single::is_single && single::contains<job> && single::index_of<job> == 0);
  CHECK(single::fingerprints == std::array{fingerprint<job>()});
}

TEST_CASE("a message is decoded as the type that its place says") {
  cohort::byte_buffer bytes;
  cohort::encode(bytes, outcome{2.5});
  std::optional<old_build> result(job{1, 2});
  message_set<old_build>::decode(1, bytes.data(), bytes.size(), result);
  CHECK(std::get<outcome>(*result).sum == 2.5);

  std::optional<outcome> alone;
  message_set<outcome>::decode(0, bytes.data(), bytes.size(), alone);
  CHECK(alone->sum == 2.5);

  CHECK_THROWS_AS(message_set<old_build>::decode(0, bytes.data(), bytes.size(), result), std::system_error);
}

TEST_CASE("a hello arrives as it was") {
  cohort::byte_buffer bytes;
  cohort::encode(bytes, cohort::make_hello<old_build, stop>(12345));
  const cohort::hello back = cohort::decode_hello(bytes.data(), bytes.size());
  CHECK(back.version == cohort::wire_version);
  CHECK(back.max_message == 12345);
  CHECK(back.flags == 0);
  REQUIRE(back.sends.size() == 2);
  CHECK(back.sends[0].fingerprint == fingerprint<job>());
  CHECK(back.sends[0].name == "schema_test::job");
  CHECK(back.sends[1].name == "schema_test::outcome");
  REQUIRE(back.understands.size() == 1);
  CHECK(back.understands[0].fingerprint == fingerprint<stop>());
}

TEST_CASE("a hello of very many types fits into a frame, with shorter names") {
  const auto hello_of = []<std::size_t... I>(std::index_sequence<I...>) {
    using part = part_of_a_name_that_takes_a_lot_of_room_when_there_are_many;
    using many = std::variant<numbered_type<I, part, part, part>...>;
    return cohort::make_hello<many, many>(1);
  };
  constexpr std::size_t count = 250;  // clang does not expand a pack of more than 256 in a fold
  const cohort::hello large = hello_of(std::make_index_sequence<count>());
  cohort::byte_buffer bytes;
  cohort::encode(bytes, large);
  CHECK(bytes.size() <= cohort::wire::max_frame);
  CHECK(bytes.size() > cohort::wire::max_frame / 2);
  const cohort::hello back = cohort::decode_hello(bytes.data(), bytes.size());
  CHECK(back.sends.size() == count);
  CHECK(back.sends[count - 1].name.starts_with("schema_test::numbered_type"));
  CHECK(back.sends[count - 1].name.size() < cohort::max_announced_name);
}

TEST_CASE("the bytes of a hello are these in every version: first the version") {
  cohort::byte_buffer bytes;
  cohort::encode(bytes, cohort::hello{1, 0x04030201, 0, {{0x1122334455667788, "ab"}}, {}});
  constexpr unsigned char expected[] = {1,    0,    1,    2,    3,    4,    0, 0, 1, 0, 0,   0,   0x88, 0x77, 0x66,
                                        0x55, 0x44, 0x33, 0x22, 0x11, 2,    0, 0, 0, 'a', 'b', 0,    0,    0,    0};
  CHECK(bytes.view() == std::string_view(reinterpret_cast<const char*>(expected), sizeof expected));
}

TEST_CASE("a hello of another version is a mismatch, whatever follows") {
  for (const std::string_view rest : {"", "layout of the future"}) {
    const std::string bytes = std::string("\2\0", 2).append(rest);
    try {
      static_cast<void>(cohort::decode_hello(bytes.data(), bytes.size()));
      FAIL("accepted");
    } catch (const std::system_error& error) {
      CHECK(error.code() == cohort::errc::schema_mismatch);
      CHECK(contains(error.what(), "channel: the peer speaks wire version 2, this side 1"));
    }
  }
}

TEST_CASE("a hello has limits") {
  const auto sample = [](std::size_t types, std::size_t name) {
    cohort::hello result;
    result.understands.assign(types, cohort::announced{1, std::string(name, 'n')});
    return result;
  };
  CHECK(hello_error(sample(1024, 256), cohort::errc::malformed) == "accepted");
  CHECK(contains(hello_error(sample(1025, 1), cohort::errc::malformed), "hello: 1025 message types"));
  CHECK(contains(hello_error(sample(1, 257), cohort::errc::malformed), "hello: name of 257 bytes"));
  cohort::hello many;
  many.sends.resize(1025);
  CHECK(contains(hello_error(many, cohort::errc::malformed), "hello: 1025 message types"));
  CHECK_THROWS_AS(cohort::decode_hello("\1", 1), std::system_error);
  CHECK_THROWS_AS(cohort::decode_hello(nullptr, 0), std::system_error);
}

TEST_CASE("two builds speak in the messages they share") {
  // old_build is {job, outcome}, new_build is {outcome, stop}.
  const auto from_new = cohort::make_hello<new_build, new_build>(1);
  const auto of_old = cohort::negotiate<old_build, old_build>(from_new);
  CHECK(of_old.incoming == std::vector<int>{1, -1});
  CHECK(of_old.outgoing == std::vector<char>{false, true});

  const auto from_old = cohort::make_hello<old_build, old_build>(1);
  const auto of_new = cohort::negotiate<new_build, new_build>(from_old);
  CHECK(of_new.incoming == std::vector<int>{-1, 0});
  CHECK(of_new.outgoing == std::vector<char>{true, false});
}

TEST_CASE("a type whose members have changed is not the same message") {
  auto theirs = cohort::make_hello<old_build, old_build>(1);
  theirs.sends[0].fingerprint ^= 1;
  theirs.understands[1].fingerprint ^= 1;
  const auto agreed = cohort::negotiate<old_build, old_build>(theirs);
  CHECK(agreed.incoming == std::vector<int>{-1, 1});
  CHECK(agreed.outgoing == std::vector<char>{true, false});
}

TEST_CASE("one type against one other is an error that names both") {
  CHECK(mismatch<job, outcome>(cohort::make_hello<outcome, job>(1)) == "agreed");
  CHECK(contains(mismatch<job, outcome>(cohort::make_hello<stop, job>(1)),
                 "channel: this side receives schema_test::outcome, the peer sends schema_test::stop"));
  CHECK(contains(mismatch<job, outcome>(cohort::make_hello<outcome, stop>(1)),
                 "channel: this side sends schema_test::job, the peer receives schema_test::stop"));

  auto changed = cohort::make_hello<outcome, job>(1);
  changed.sends[0].fingerprint ^= 1;
  CHECK(contains(mismatch<job, outcome>(changed),
                 "channel: this side receives schema_test::outcome, the peer sends one of another shape"));
}

TEST_CASE("one type against several is no error: what both know can be sent") {
  const auto agreed = cohort::negotiate<stop, job>(cohort::make_hello<new_build, old_build>(1));
  CHECK(agreed.incoming == std::vector<int>{-1, -1});
  CHECK(agreed.outgoing == std::vector<char>{false});
  const auto partly = cohort::negotiate<outcome, outcome>(cohort::make_hello<new_build, old_build>(1));
  CHECK(partly.incoming == std::vector<int>{0, -1});
  CHECK(partly.outgoing == std::vector<char>{true});
  const auto nothing = cohort::negotiate<old_build, old_build>(cohort::hello());
  CHECK(nothing.incoming.empty());
  CHECK(nothing.outgoing == std::vector<char>{false, false});
}

}  // namespace
}  // namespace schema_test
