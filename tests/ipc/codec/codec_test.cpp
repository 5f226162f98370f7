// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/codec/codec.hpp"

#include <algorithm>
#include <any>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "../../support/doctest.hpp"

// Of the types here no two may have one name in a program: they are this file's alone.
namespace {

using cohort::byte_buffer;
using cohort::codec;
using cohort::detail::field_count;

template <class T>
std::string encoded(const T& value) {
  byte_buffer buffer;
  cohort::encode(buffer, value);
  return std::string(buffer.view());
}

template <class T>
T decoded(std::string_view bytes) {
  return cohort::decode<T>(bytes.data(), bytes.size());
}

/// What the peer gets, after a look at what the codec says of its size.
template <class T>
T sent(const T& value) {
  const std::string bytes = encoded(value);
  if constexpr (requires { codec<T>::fixed_size; }) {
    CHECK(bytes.size() == codec<T>::fixed_size);
  }
  CHECK(bytes.size() >= cohort::detail::min_size_of<T>());
  return decoded<T>(bytes);
}

/// The text of the error that decoding ends with; fails unless it is errc::malformed.
template <class T>
std::string decode_error(std::string_view bytes) {
  try {
    static_cast<void>(decoded<T>(bytes));
  } catch (const std::system_error& error) {
    CHECK(error.code() == cohort::errc::malformed);
    return error.what();
  }
  return "decoded";
}

template <class T>
std::string encode_error(const T& value, cohort::errc code) {
  byte_buffer buffer;
  std::memcpy(buffer.grow(3), "abc", 3);
  try {
    cohort::encode(buffer, value);
  } catch (const std::system_error& error) {
    CHECK(error.code() == code);
    CHECK(buffer.view() == "abc");
    return error.what();
  }
  return "encoded";
}

std::string bytes(std::initializer_list<int> values) { return std::string(values.begin(), values.end()); }

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

enum class color : std::uint8_t { red = 1, blue = 200 };
enum weekday : int { monday, sunday = -7 };
enum class answer : bool { no, yes };

struct empty {
  bool operator==(const empty&) const = default;
};

struct job {
  std::uint64_t from, to;
  bool operator==(const job&) const = default;
};

struct padded {
  std::uint8_t small = 0;
  std::uint64_t large = 0;
  bool flag = false;
  color tint = color::red;
  bool operator==(const padded&) const = default;
};

struct with_arrays {
  int numbers[3];
  job jobs[2];
  char grid[2][4];
  std::string names[2];
  std::array<std::uint16_t, 3> last;
  bool operator==(const with_arrays&) const = default;
};

struct everything {
  std::string text;
  std::vector<std::uint32_t> numbers;
  std::vector<std::string> lines;
  std::optional<job> maybe;
  std::variant<std::monostate, int, std::string> choice;
  std::tuple<int, std::string, bool> triple;
  std::map<std::string, std::vector<int>> index;
  std::set<int> members;
  std::vector<bool> bits;
  std::filesystem::path path;
  std::chrono::milliseconds pause{};
  padded inner;
  std::array<double, 2> point{};
  color tint = color::red;
  bool operator==(const everything&) const = default;
};

everything some_of_everything() {
  everything value;
  value.text = "a text longer than the short string buffer";
  value.numbers = {1, 2, 0xffffffff};
  value.lines = {"", "one", std::string(100, 'x')};
  value.maybe = job{1, 2};
  value.choice = "chosen";
  value.triple = {-1, "two", true};
  value.index = {{"a", {1, 2}}, {"b", {}}};
  value.members = {3, 1, 2};
  value.bits = {true, false, true, true, false, false, true, false, true};
  value.path = "/var/run/x";
  value.pause = std::chrono::milliseconds(250);
  value.inner = {7, 8, true, color::blue};
  value.point = {0.5, -1};
  value.tint = color::blue;
  return value;
}

struct tree {
  int value = 0;
  std::unique_ptr<tree> left, right;
};

struct forest {
  std::string name;
  std::vector<forest> children;
  std::map<std::string, forest> named;
  bool operator==(const forest&) const = default;
};

struct move_only {
  std::unique_ptr<std::string> text;
  std::vector<std::unique_ptr<int>> numbers;
};

/// A class that is no plain struct.
class temperature {
 public:
  temperature() = default;
  explicit temperature(double kelvin) : kelvin_(kelvin) {}
  double kelvin() const { return kelvin_; }
  bool operator==(const temperature&) const = default;

 private:
  double kelvin_ = 0;
};

/// As another library might have it: a template whose codec is a partial specialisation, constrained by a concept.
template <class T>
class ring {
 public:
  using ring_element = T;
  std::vector<T> items;
  ring() = default;
  explicit ring(std::vector<T> from) : items(std::move(from)) {}
};

template <class T>
concept any_ring = requires { typename T::ring_element; };

/// A plain struct that does not want to be taken apart.
struct version {
  int major = 0, minor = 0;
  bool operator==(const version&) const = default;
};

struct reading {
  temperature at;
  std::uint32_t station = 0;
  bool operator==(const reading&) const = default;
};

struct weather {
  temperature now;
  ring<std::string> days;
  version of;
};

struct sixty_four {
  std::uint8_t a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15;
  std::uint8_t b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15;
  std::uint8_t c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15;
  std::string d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15;
  bool operator==(const sixty_four&) const = default;
};

struct odd_members {
  std::any any;
  std::function<void()> function;
  std::optional<job> of_struct[2];
  std::variant<job> one;
  std::tuple<int> alone;
  std::optional<std::optional<int>> twice;
  std::vector<odd_members> self;
};

struct no_default {
  explicit no_default(int) {}
};

struct with_defaults {
  int a = 1;
  no_default b{2};
  int c[2] = {1, 2};
  no_default d{4};
};

struct bits_and_bytes {
  unsigned low : 3;
  unsigned high : 5;
  char name[20];
};

struct explosive {
  std::string text = []() -> std::string { throw 1; }();
};

struct base {
  int x;
};
struct derived : base {
  int y;
};

}  // namespace

template <>
struct cohort::codec<temperature> {
  static constexpr std::size_t fixed_size = 8;
  static void encode(writer& out, const temperature& value) { out.put(value.kelvin()); }
  static void decode(reader& in, temperature& value) {
    const auto kelvin = in.get<double>();
    if (!(kelvin >= 0)) throw_error("decode: temperature", errc::malformed);
    value = temperature(kelvin);
  }
  static constexpr std::uint64_t shape() { return custom_shape("kelvin: f64"); }
};

template <any_ring T>
struct cohort::codec<T> {
  using items = std::vector<typename T::ring_element>;
  static constexpr std::size_t min_size = 4;
  static void encode(writer& out, const T& value) { codec<items>::encode(out, value.items); }
  static void decode(reader& in, T& value) { codec<items>::decode(in, value.items); }
  static constexpr std::uint64_t shape() { return codec<items>::shape(); }
};

template <>
struct cohort::codec<version> {
  static void encode(writer& out, const version& value) {
    codec<std::string>::encode(out, std::to_string(value.major) + "." + std::to_string(value.minor));
  }
  static void decode(reader& in, version& value) {
    std::string text;
    codec<std::string>::decode(in, text);
    const auto dot = text.find('.');
    if (dot == std::string::npos) throw_error("decode: version \"" + text + '"', errc::malformed);
    value = {std::stoi(text), std::stoi(text.substr(dot + 1))};
  }
  static constexpr std::uint64_t shape() { return custom_shape("major.minor"); }
};

namespace {

TEST_CASE("fields are counted, arrays and nested structs as one") {
  CHECK(field_count<empty> == 0);
  CHECK(field_count<job> == 2);
  CHECK(field_count<padded> == 4);
  CHECK(field_count<with_arrays> == 5);
  CHECK(field_count<everything> == 14);
  CHECK(field_count<tree> == 3);
  CHECK(field_count<forest> == 3);
  CHECK(field_count<move_only> == 2);
  CHECK(field_count<sixty_four> == 64);
  CHECK(field_count<odd_members> == 7);
  CHECK(field_count<with_defaults> == 4);
  CHECK(field_count<bits_and_bytes> == 3);
  CHECK(cohort::detail::derived_aggregate<derived>);
  CHECK_FALSE(cohort::detail::derived_aggregate<odd_members>);
}

TEST_CASE("fields are visited in order of declaration, and can be written") {
  job value{1, 2};
  cohort::detail::visit_fields(value, [](auto&... field) { ((field += 10), ...); });
  CHECK(value == job{11, 12});
  const job& constant = value;
  CHECK(cohort::detail::visit_fields(constant, [](const auto& a, const auto& b) { return a * 100 + b; }) == 1112);
  CHECK(cohort::detail::visit_fields(empty(), [] { return 5; }) == 5);
}

TEST_CASE("a buffer grows without losing what is in it, and keeps its memory when cleared") {
  byte_buffer buffer;
  CHECK(buffer.empty());
  CHECK(buffer.view().empty());
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    *buffer.grow(1) = static_cast<char>(i);
    expected += static_cast<char>(i);
  }
  CHECK(buffer.view() == expected);
  buffer.truncate(10);
  CHECK(buffer.view() == expected.substr(0, 10));

  const std::size_t capacity = buffer.capacity();
  buffer.clear();
  CHECK(buffer.empty());
  CHECK(buffer.capacity() == capacity);
  buffer.reserve(capacity + 1);
  CHECK(buffer.capacity() > capacity);
  CHECK(buffer.empty());

  *buffer.grow(1) = 'x';
  byte_buffer other = std::move(buffer);
  CHECK(other.view() == "x");
  buffer = std::move(other);
  CHECK(buffer.view() == "x");
  CHECK_THROWS_AS(buffer.grow(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  CHECK_THROWS_AS(buffer.reserve(std::numeric_limits<std::size_t>::max() / 2), std::bad_alloc);
  CHECK(buffer.view() == "x");
}

TEST_CASE("the bytes of a message are these, and no others") {
  CHECK(encoded(job{1, 0x0807060504030201}) == bytes({1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
  CHECK(encoded(padded{9, 1, true, color::blue}) == bytes({9, 1, 0, 0, 0, 0, 0, 0, 0, 1, 200}));
  CHECK(encoded(std::string("hi")) == bytes({2, 0, 0, 0, 'h', 'i'}));
  CHECK(encoded(std::u16string(u"h")) == bytes({1, 0, 0, 0, 'h', 0}));
  CHECK(encoded(std::vector<std::int16_t>{-1, 2}) == bytes({2, 0, 0, 0, -1, -1, 2, 0}));
  CHECK(encoded(std::vector<bool>{true, false, false, false, false, false, false, true, true}) ==
        bytes({9, 0, 0, 0, 0x81, 1}));
  CHECK(encoded(std::optional<color>(color::red)) == bytes({1, 1}));
  CHECK(encoded(std::optional<color>()) == bytes({0}));
  CHECK(encoded(std::variant<int, char>('x')) == bytes({1, 'x'}));
  CHECK(encoded(std::map<char, bool>{{'b', true}, {'a', false}}) == bytes({2, 0, 0, 0, 'a', 0, 'b', 1}));
  CHECK(encoded(std::array<char, 2>{'a', 'b'}) == "ab");
  CHECK(encoded(empty()).empty());
  CHECK(encoded(std::monostate()).empty());
}

TEST_CASE_TEMPLATE("numbers arrive as they were", T, char, signed char, unsigned char, short, unsigned short, int,
                   unsigned, long, unsigned long, long long, unsigned long long, float, double, char8_t, char16_t,
                   char32_t, wchar_t) {
  using limits = std::numeric_limits<T>;
  for (const T value : {T(0), T(1), T(100), limits::min(), limits::lowest(), limits::max()}) {
    CHECK(static_cast<bool>(sent(value) == value));
    CHECK(sent(std::vector<T>(5, value)) == std::vector<T>(5, value));
  }
}

TEST_CASE("floating-point numbers keep what has no value") {
  CHECK(std::isnan(sent(std::numeric_limits<double>::quiet_NaN())));
  CHECK(sent(std::numeric_limits<float>::infinity()) == std::numeric_limits<float>::infinity());
  CHECK(std::signbit(sent(-0.0)));
}

TEST_CASE("booleans and enumerations arrive as they were, and a boolean is 0 or 1") {
  CHECK(sent(true));
  CHECK_FALSE(sent(false));
  CHECK(sent(color::blue) == color::blue);
  CHECK(sent(sunday) == sunday);
  CHECK(sent(answer::yes) == answer::yes);
  CHECK(contains(decode_error<bool>(bytes({2})), "decode: bool of value 2"));
  CHECK(contains(decode_error<answer>(bytes({255})), "decode: bool of value 255"));
  CHECK(contains(decode_error<padded>(bytes({9, 1, 0, 0, 0, 0, 0, 0, 0, 3, 200})), "decode: bool of value 3"));
}

TEST_CASE("strings and containers arrive as they were") {
  for (const std::size_t size : {0, 1, 15, 16, 4095, 4096, 4097, 1 << 20}) {
    const std::string text(size, 'x');
    CHECK(sent(text) == text);
    CHECK(sent(std::u32string(size, U'y')) == std::u32string(size, U'y'));
    std::vector<std::uint64_t> numbers(size);
    for (std::size_t i = 0; i < size; ++i) numbers[i] = i * 0x0101010101010101u;
    CHECK(sent(numbers) == numbers);
    CHECK(sent(std::vector<std::int8_t>(size, -3)) == std::vector<std::int8_t>(size, -3));
    CHECK(sent(std::vector<color>(size, color::blue)) == std::vector<color>(size, color::blue));
    CHECK(sent(std::vector<job>(size, job{1, size})) == std::vector<job>(size, job{1, size}));
    CHECK(sent(std::vector<padded>(size, padded{1, 2, true})) == std::vector<padded>(size, padded{1, 2, true}));
  }
  CHECK(sent(std::string("a\0b", 3)) == std::string("a\0b", 3));
  CHECK(sent(std::u8string(u8"ä")) == u8"ä");
  CHECK(sent(std::vector<std::string>{"a", "", "c"}) == std::vector<std::string>{"a", "", "c"});
  CHECK(sent(std::vector<std::vector<int>>{{1}, {}, {2, 3}}) == std::vector<std::vector<int>>{{1}, {}, {2, 3}});
  const std::vector<std::array<std::uint64_t, 200>> large(3, {1, 2, 3});
  CHECK(sent(large) == large);
  CHECK(sent(std::set<std::string>{"b", "a"}) == std::set<std::string>{"a", "b"});
  CHECK(sent(std::unordered_set<int>{1, 2, 3}) == std::unordered_set<int>{1, 2, 3});
  CHECK(sent(std::map<int, std::string>{{2, "b"}, {1, "a"}}) == std::map<int, std::string>{{1, "a"}, {2, "b"}});
  CHECK(sent(std::unordered_map<std::string, int>{{"b", 2}, {"a", 1}}) ==
        std::unordered_map<std::string, int>{{"a", 1}, {"b", 2}});
}

TEST_CASE("a vector<bool> of any length arrives, and its spare bits are zero") {
  for (std::size_t size = 0; size < 70; ++size) {
    std::vector<bool> flags(size);
    for (std::size_t i = 0; i < size; ++i) flags[i] = i % 3 == 0;
    CHECK(sent(flags) == flags);
  }
  CHECK(contains(decode_error<std::vector<bool>>(bytes({1, 0, 0, 0, 2})), "padding of a vector<bool>"));
  CHECK(contains(decode_error<std::vector<bool>>(bytes({-1, -1, -1, -1, 0})), "536870912 bytes wanted, 1 left"));
}

TEST_CASE("optionals, variants, tuples and pointers arrive as they were") {
  using choice = std::variant<int, std::string, int>;
  CHECK(sent(choice(std::in_place_index<2>, 5)) == choice(std::in_place_index<2>, 5));
  CHECK(sent(choice("x")) == choice("x"));
  const std::optional<std::optional<int>> full_of_nothing(std::in_place);
  CHECK(sent(full_of_nothing).has_value());
  CHECK_FALSE(sent(full_of_nothing)->has_value());
  CHECK_FALSE(sent(std::optional<std::optional<int>>()).has_value());
  CHECK(sent(std::optional<std::string>("x")) == "x");
  CHECK(sent(std::tuple<>()) == std::tuple<>());
  CHECK(sent(std::tuple<int, std::string>(1, "x")) == std::tuple<int, std::string>(1, "x"));
  CHECK(sent(std::pair<bool, int>(true, 7)) == std::pair<bool, int>(true, 7));
  CHECK(sent(std::vector<std::pair<char, int>>{{'a', 1}, {'b', 2}}) ==
        std::vector<std::pair<char, int>>{{'a', 1}, {'b', 2}});
  CHECK(*decoded<std::unique_ptr<job>>(encoded(std::make_unique<job>(job{1, 2}))) == job{1, 2});
  CHECK(decoded<std::unique_ptr<job>>(encoded(std::unique_ptr<job>())) == nullptr);

  CHECK(contains(decode_error<choice>(bytes({3})), "alternative of a variant of value 3"));
  CHECK(contains(decode_error<std::optional<int>>(bytes({2, 0, 0, 0, 0})), "flag of an optional of value 2"));
  CHECK(contains(decode_error<std::unique_ptr<int>>(bytes({2, 0, 0, 0, 0})), "flag of a unique_ptr of value 2"));
}

TEST_CASE("a variant that has lost its value is not sent") {
  std::variant<int, explosive> value(1);
  CHECK_THROWS_AS(value.emplace<explosive>(), int);
  REQUIRE(value.valueless_by_exception());
  CHECK_THROWS_AS(encoded(value), std::system_error);
}

TEST_CASE("times and paths arrive as they were") {
  using namespace std::chrono_literals;
  CHECK(sent(-5ms) == -5ms);
  CHECK(sent(std::chrono::duration<double>(0.25)) == std::chrono::duration<double>(0.25));
  CHECK(sent(std::vector<std::chrono::seconds>(3, 9s)) == std::vector<std::chrono::seconds>(3, 9s));
  const auto now = std::chrono::steady_clock::now();
  CHECK((sent(now) == now));
  const auto today = std::chrono::system_clock::now();
  CHECK((sent(today) == today));
  CHECK(sent(std::filesystem::path("/a/b c")) == std::filesystem::path("/a/b c"));
}

TEST_CASE("structs arrive as they were") {
  CHECK(sent(empty()) == empty());
  CHECK(sent(job{1, ~std::uint64_t{0}}) == job{1, ~std::uint64_t{0}});
  CHECK(sent(padded{1, 2, true, color::blue}) == padded{1, 2, true, color::blue});
  const with_arrays arrays{{1, 2, 3}, {{4, 5}, {6, 7}}, {"abc", "xyz"}, {"one", "two"}, {8, 9, 10}};
  CHECK(sent(arrays) == arrays);
  CHECK(sent(some_of_everything()) == some_of_everything());
  CHECK(sent(everything()) == everything());
  sixty_four many{};
  many.a0 = 1;
  many.c15 = 2;
  many.d15 = "last";
  CHECK(sent(many) == many);
}

TEST_CASE("a message may be move-only") {
  move_only value;
  value.text = std::make_unique<std::string>("x");
  value.numbers.push_back(std::make_unique<int>(7));
  value.numbers.push_back(nullptr);
  const auto back = decoded<move_only>(encoded(value));
  CHECK(*back.text == "x");
  REQUIRE(back.numbers.size() == 2);
  CHECK(*back.numbers[0] == 7);
  CHECK(back.numbers[1] == nullptr);
}

TEST_CASE("a type may contain itself") {
  tree root{1, std::make_unique<tree>(tree{2, nullptr, nullptr}), std::make_unique<tree>(tree{3, nullptr, nullptr})};
  root.right->left = std::make_unique<tree>(tree{4, nullptr, nullptr});
  const auto back = decoded<tree>(encoded(root));
  CHECK(back.value == 1);
  CHECK(back.left->value == 2);
  CHECK(back.right->left->value == 4);
  CHECK(back.right->right == nullptr);

  const forest wood{"a", {{"b", {}, {}}, {"c", {{"d", {}, {}}}, {}}}, {{"key", {"e", {}, {}}}}};
  CHECK(sent(wood) == wood);
}

TEST_CASE("nesting ends at 64 levels, on both sides") {
  const auto chain = [](unsigned levels) {
    tree root;
    for (unsigned i = 1; i < levels; ++i) {
      auto outer = std::make_unique<tree>();
      outer->left = std::move(root.left);
      root.left = std::move(outer);
    }
    return root;
  };
  CHECK(contains(encode_error(chain(65), cohort::errc::message_too_large), "encode: nested deeper than 64 levels"));
  std::string deepest = encoded(chain(64));
  CHECK(decoded<tree>(deepest).left != nullptr);

  // A node is four bytes of value and two flags, and the left one comes first.
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += bytes({0, 0, 0, 0, 1});
  CHECK(contains(decode_error<tree>(deep), "decode: nested deeper than 64 levels"));

  std::string wide;  // an empty name and one child
  for (int i = 0; i < 100000; ++i) wide += bytes({0, 0, 0, 0, 1, 0, 0, 0});
  CHECK(contains(decode_error<forest>(wide), "decode: nested deeper than 64 levels"));

  // The level is left again: a wide message is not a deep one.
  const forest broad{"", std::vector<forest>(1000), {}};
  CHECK(sent(broad) == broad);
}

TEST_CASE("codecs of users come before the library's") {
  weather value{temperature(300), ring<std::string>({"sunny", "rain"}), {12, 34}};
  const auto back = decoded<weather>(encoded(value));
  CHECK(back.now == value.now);
  CHECK(back.days.items == value.days.items);
  CHECK(back.of == value.of);
  CHECK(encoded(version{1, 2}) == bytes({3, 0, 0, 0, '1', '.', '2'}));
  CHECK(contains(decode_error<temperature>(encoded(-1.0)), "decode: temperature"));
  CHECK(contains(decode_error<version>(encoded(std::string("x"))), "decode: version \"x\""));

  CHECK(codec<reading>::fixed_size == 12);
  CHECK(sent(reading{temperature(5), 6}) == reading{temperature(5), 6});
  CHECK(sent(std::vector<reading>(3, {temperature(5), 6})) == std::vector<reading>(3, {temperature(5), 6}));
  const std::vector<temperature> list{temperature(1), temperature(2)};
  CHECK(sent(list) == list);
  CHECK(sent(std::vector<version>{{1, 2}, {3, 4}}) == std::vector<version>{{1, 2}, {3, 4}});
  CHECK(sent(std::array<temperature, 2>{temperature(1), temperature(2)})[1] == temperature(2));
}

TEST_CASE("an old value is replaced as a whole") {
  everything target = some_of_everything();
  const std::string blank = encoded(everything());
  cohort::decode_into(blank.data(), blank.size(), target);
  CHECK(target == everything());
}

TEST_CASE("values follow one another, and what is left over is malformed") {
  byte_buffer buffer;
  cohort::encode(buffer, job{1, 2});
  cohort::encode(buffer, std::string("next"));
  cohort::reader in(buffer.data(), buffer.size());
  job first{};
  std::string second;
  cohort::decode_into(in, first);
  cohort::decode_into(in, second);
  CHECK(first == job{1, 2});
  CHECK(second == "next");
  CHECK(in.remaining() == 0);

  CHECK(contains(decode_error<int>(bytes({1, 0, 0, 0, 9, 9, 9})), "decode: 3 bytes left after the message"));
  CHECK(contains(decode_error<int>(bytes({1, 0, 0, 0, 9})), "decode: 1 byte left after the message"));
  CHECK(contains(decode_error<empty>("x"), "decode: 1 byte left after the message"));
}

TEST_CASE("errors say what was claimed and what is there") {
  const std::string claim = bytes({0, 0x10, 0, 0}) + "twelve bytes";
  CHECK(contains(decode_error<std::string>(claim), "decode: string of 4096 bytes, 12 left"));
  CHECK(contains(decode_error<std::filesystem::path>(claim), "decode: path of 4096 bytes, 12 left"));
  CHECK(contains(decode_error<std::vector<job>>(claim), "vector of 4096 elements of at least 16 bytes, 12 left"));
  CHECK(contains(decode_error<std::map<int, bool>>(claim), "map of 4096 elements of at least 5 bytes, 12 left"));
  CHECK(contains(decode_error<std::set<std::string>>(claim), "set of 4096 elements of at least 4 bytes, 12 left"));
  CHECK(contains(decode_error<job>("12345678"), "decode: 16 bytes wanted, 8 left"));
}

TEST_CASE("a key that comes twice is malformed, an order that is not ours is fine") {
  const std::string twice = encoded(std::vector<std::pair<int, int>>{{1, 1}, {2, 2}, {1, 3}});
  CHECK(contains(decode_error<std::map<int, int>>(twice), "decode: map with the same key twice"));
  CHECK(contains(decode_error<std::unordered_map<int, int>>(twice), "decode: map with the same key twice"));
  CHECK(contains(decode_error<std::set<int>>(encoded(std::vector<int>{2, 2})), "decode: set with the same key twice"));
  CHECK(contains(decode_error<std::unordered_set<int>>(encoded(std::vector<int>{2, 2})), "with the same key twice"));

  const std::string unsorted = encoded(std::vector<std::pair<int, int>>{{3, 1}, {1, 2}, {2, 3}});
  CHECK(decoded<std::map<int, int>>(unsorted) == std::map<int, int>{{1, 2}, {2, 3}, {3, 1}});
}

TEST_CASE("every part of a message that is cut short is malformed") {
  const auto cut = []<class T>(const T& value) {
    const std::string whole = encoded(value);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      // In memory of its own, so that a sanitizer sees a byte too many.
      const std::vector<char> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(contains(decode_error<T>({part.data(), part.size()}), "decode: "));
    }
  };
  cut(some_of_everything());
  cut(forest{"a", {{"b", {}, {}}, {"c", {{"d", {}, {}}}, {}}}, {{"key", {"e", {}, {}}}}});
  cut(with_arrays{{1, 2, 3}, {{4, 5}, {6, 7}}, {"abc", "xyz"}, {"one", "two"}, {8, 9, 10}});
  cut(std::unordered_map<std::string, std::variant<int, std::string>>{{"a", 1}, {"b", "x"}});
}

/// Remembers the largest block that was ever asked for.
template <class T>
struct watched {
  using value_type = T;

  watched() = default;
  template <class U>
  watched(const watched<U>&) {}

  T* allocate(std::size_t n) {
    largest = std::max(largest, n * sizeof(T));
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* memory, std::size_t n) { std::allocator<T>().deallocate(memory, n); }

  bool operator==(const watched&) const = default;

  static inline std::size_t largest = 0;
};

/// One byte on the wire when it is empty, and a large object nevertheless.
struct bloated {
  std::optional<std::array<char, 100000>> content;
};

template <class Container, class Element>
void claim_much() {
  INFO(cohort::detail::type_name<Container>());
  for (const std::uint32_t count : {0xffffffffu, 0x7fffffffu, 0x40000000u, 1000000u}) {
    watched<Element>::largest = 0;
    byte_buffer claim;
    cohort::encode(claim, count);
    cohort::encode(claim, std::array<char, 100>{});
    CHECK(contains(decode_error<Container>(claim.view()), "100 left"));
    CHECK(watched<Element>::largest <= 64);
  }
}

TEST_CASE("a length that is claimed and not there allocates nothing") {
  claim_much<std::basic_string<char, std::char_traits<char>, watched<char>>, char>();
  claim_much<std::vector<char, watched<char>>, char>();
  claim_much<std::vector<job, watched<job>>, job>();
  claim_much<std::vector<padded, watched<padded>>, padded>();
  claim_much<std::vector<std::string, watched<std::string>>, std::string>();
  claim_much<std::vector<version, watched<version>>, version>();
  claim_much<std::set<int, std::less<int>, watched<int>>, int>();
}

TEST_CASE("memory follows the bytes that have come, and not the size of the elements") {
  using list = std::vector<bloated, watched<bloated>>;
  watched<bloated>::largest = 0;
  byte_buffer claim;
  cohort::encode(claim, std::uint32_t{50000});
  for (int i = 0; i < 50000; ++i) cohort::encode(claim, std::uint8_t{2});
  CHECK(contains(decode_error<list>(claim.view()), "more than the bytes that came account for"));
  CHECK(watched<bloated>::largest == 0);
  const std::string few = bytes({8, 0, 0, 0}) + std::string(8, '\0');
  CHECK(decoded<list>(few).size() == 8);
}

/// A kilobyte of memory for a byte on the wire, in each kind of container.
using empty_or_large = std::optional<std::array<char, 1000>>;

TEST_CASE("a message takes memory in proportion to its bytes, whatever it is made of") {
  constexpr std::uint32_t many = 100'000;
  byte_buffer claim;
  cohort::encode(claim, many);
  for (std::uint32_t i = 0; i < many; ++i) {
    cohort::encode(claim, i);
    cohort::encode(claim, std::uint8_t{0});
  }
  const std::string without_keys = encoded(many) + std::string(many, '\0');
  const char* const text = "more than the bytes that came account for";
  CHECK(contains(decode_error<std::vector<empty_or_large>>(without_keys), text));
  CHECK(contains(decode_error<std::vector<std::tuple<empty_or_large, std::string>>>(
                     encoded(many) + std::string(many * 5, '\0')), text));
  // A pointer is there, and the optional that it points to is empty.
  std::string pointers = encoded(many);
  for (std::uint32_t i = 0; i < many; ++i) pointers += bytes({1, 0});
  CHECK(contains(decode_error<std::vector<std::unique_ptr<empty_or_large>>>(pointers), text));
  CHECK(contains(decode_error<std::map<std::uint32_t, empty_or_large>>(claim.view()), text));
  CHECK(contains(decode_error<std::unordered_map<std::uint32_t, empty_or_large>>(claim.view()), text));
  // In one container inside many others, too.
  byte_buffer nested;
  cohort::encode(nested, std::uint32_t{1000});
  const std::string inner = encoded(std::uint32_t{100}) + std::string(100, '\0');
  for (int i = 0; i < 1000; ++i) std::memcpy(nested.grow(inner.size()), inner.data(), inner.size());
  CHECK(contains(decode_error<std::vector<std::vector<empty_or_large>>>(nested.view()), text));
}

/// A row of a table in which little is set.
struct sparse_row {
  std::optional<std::string> fields[20];
  bool operator==(const sparse_row&) const = default;
};

TEST_CASE("what programs send takes no more memory than it may") {
  CHECK(sent(std::vector<std::string>(200'000)).size() == 200'000);
  CHECK(sent(std::vector<std::vector<int>>(200'000)).size() == 200'000);
  CHECK(sent(std::vector<std::optional<double>>(200'000)).size() == 200'000);
  CHECK(sent(std::vector<sparse_row>(50'000)).size() == 50'000);
  CHECK(sent(std::vector<empty_or_large>(900)).size() == 900);
  std::set<std::uint16_t> numbers;
  std::unordered_set<std::uint16_t> unordered;
  for (unsigned i = 0; i < 60'000; ++i) {
    numbers.insert(static_cast<std::uint16_t>(i));
    unordered.insert(static_cast<std::uint16_t>(i));
  }
  CHECK(sent(numbers) == numbers);
  CHECK(sent(unordered) == unordered);
  const std::filesystem::path deep(std::string(2000, 'a') + std::string(100'000, '/') + "x/y");
  CHECK(sent(deep) == deep);
}

struct one_bucket {
  std::size_t operator()(std::uint64_t) const noexcept { return 7; }
};

TEST_CASE("keys that are chosen to fall into one bucket are malformed, others are not") {
  constexpr std::size_t many = 20'000;
  const auto encoded_keys = [](std::uint64_t step, std::size_t count) {
    std::vector<std::pair<std::uint64_t, char>> all;
    for (std::size_t i = 0; i < count; ++i) all.emplace_back(i * step, 'x');
    return encoded(all);
  };
  std::unordered_map<std::uint64_t, char> table;
  table.reserve(many);
  const std::uint64_t buckets = table.bucket_count();
  const char* const text = "keys that are chosen to fall together";
  CHECK(contains(decode_error<std::unordered_map<std::uint64_t, char>>(encoded_keys(buckets, many)), text));
  std::vector<std::uint64_t> keys;
  for (std::size_t i = 0; i < many; ++i) keys.push_back(i * buckets);
  CHECK(contains(decode_error<std::unordered_set<std::uint64_t>>(encoded(keys)), text));
  CHECK(decoded<std::set<std::uint64_t>>(encoded(keys)).size() == many);

  for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{4096}, std::uint64_t{1} << 40, buckets + 1}) {
    const auto decoded_table = decoded<std::unordered_map<std::uint64_t, char>>(encoded_keys(step, many));
    CHECK(decoded_table.size() == many);
  }
  // A hash function that is no good is slow, and fails only where it would hold up the loop.
  using poor = std::unordered_map<std::uint64_t, char, one_bucket>;
  CHECK(decoded<poor>(encoded_keys(1, 300)).size() == 300);
  CHECK(contains(decode_error<poor>(encoded_keys(1, 5000)), text));
}

TEST_CASE("whatever bytes come, decoding ends with a value or with malformed") {
  std::mt19937 random(20240229);
  const auto attempt = [](const auto& sample, std::string_view input) {
    using T = std::remove_cvref_t<decltype(sample)>;
    const std::vector<char> exact(input.begin(), input.end());
    try {
      const T value = cohort::decode<T>(exact.data(), exact.size());
      const std::string once = encoded(value);
      CHECK(encoded(decoded<T>(once)) == once);
      return true;
    } catch (const std::system_error& error) {
      CHECK(error.code() == cohort::errc::malformed);
      return false;
    }
  };
  const everything sample = some_of_everything();
  const forest wood{"a", {{"b", {}, {}}, {"c", {{"d", {}, {}}}, {}}}, {{"key", {"e", {}, {}}}}};
  int values = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto disturb = [&random](std::string text) {
      for (auto changes = random() % 4; changes != 0; --changes) {
        if (text.empty()) break;
        const std::size_t at = random() % text.size();
        switch (random() % 4) {
          case 0: text[at] = static_cast<char>(random()); break;
          case 1: text[at] = static_cast<char>(text[at] ^ (1 << random() % 8)); break;
          case 2: text.erase(at, 1 + random() % 3); break;
          default: text.insert(at, 1 + random() % 3, static_cast<char>(random() % 4)); break;
        }
      }
      return text;
    };
    values += attempt(sample, disturb(encoded(sample)));
    values += attempt(wood, disturb(encoded(wood)));
    std::string noise(random() % 64, '\0');
    for (char& byte : noise) byte = static_cast<char>(random() % 3 == 0 ? random() : random() % 3);
    attempt(sample, noise);
    attempt(wood, noise);
  }
  CHECK(values > 10000);
}

TEST_CASE("a writer takes no length above 32 bits") {
  byte_buffer buffer;
  cohort::writer out(buffer);
  out.length(0xffffffff);
  CHECK(buffer.view() == bytes({-1, -1, -1, -1}));
  try {
    out.length(0x100000000);
    FAIL("a length of 33 bits was written");
  } catch (const std::system_error& error) {
    CHECK(error.code() == cohort::errc::message_too_large);
  }
}

}  // namespace
