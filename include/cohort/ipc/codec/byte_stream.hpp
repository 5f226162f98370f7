// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../core/descriptor.hpp"
#include "byte_buffer.hpp"
#include "decode_budget.hpp"

namespace cohort {

/// How many containers and pointers may lie inside one another in a message, so that no message can exhaust the stack.
/// Encoding a deeper one throws errc::message_too_large, decoding it errc::malformed.
inline constexpr unsigned max_nesting = 64;

namespace detail {

[[noreturn, gnu::cold]] void fail_decode(const std::string& text);
[[noreturn, gnu::cold]] void fail_take(std::size_t wanted, std::size_t left);
[[noreturn, gnu::cold]] void fail_length(const char* what, std::size_t count, std::size_t each, std::size_t left);
[[noreturn, gnu::cold]] void fail_value(const char* what, std::uint64_t value);
[[noreturn, gnu::cold]] void fail_trailing(std::size_t left);
[[noreturn, gnu::cold]] void fail_depth(bool encoding);
[[noreturn, gnu::cold]] void fail_twice(const char* what);
[[noreturn, gnu::cold]] void fail_size(std::size_t count);
[[noreturn, gnu::cold]] void fail_handle();
[[noreturn, gnu::cold]] void fail_handle_count();

/// What goes over the wire as its bytes, the lowest first.
template <class T>
concept plain_number = std::is_arithmetic_v<T> && !std::same_as<T, bool> && !std::same_as<T, long double>;

template <plain_number T>
void store_number(char* to, T value) noexcept {
  if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
    std::memcpy(to, &value, sizeof value);
  } else {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = bytes[sizeof(T) - 1 - i];
  }
}

template <plain_number T>
T load_number(const char* from) noexcept {
  T value;
  if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
    std::memcpy(&value, from, sizeof value);
  } else {
    char bytes[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes[i] = from[sizeof(T) - 1 - i];
    std::memcpy(&value, bytes, sizeof value);
  }
  return value;
}

/// One level of nesting, left when it goes out of scope.
class nesting {
 public:
  nesting(unsigned& depth, bool encoding) : depth_(depth) {
    if (depth_ == max_nesting) fail_depth(encoding);
    ++depth_;
  }
  nesting(const nesting&) = delete;
  nesting& operator=(const nesting&) = delete;
  ~nesting() { --depth_; }

 private:
  unsigned& depth_;
};

}  // namespace detail

namespace detail {

/// A large part of a message that lies elsewhere than the rest of its encoding: `size` bytes at `data` belong in front
/// of what the rest has from `offset` on.
struct outside_range {
  std::size_t offset = 0;
  const char* data = nullptr;
  std::size_t size = 0;
};

/// The large parts of one message that are not copied when it is encoded. Smaller ones are: each part that lies
/// elsewhere costs an entry in the list of what the kernel is to write.
class borrowed_ranges {
 public:
  static constexpr std::size_t worth_it = 32 * 1024;
  static constexpr std::size_t most = 8;

  bool empty() const noexcept { return list_.empty(); }
  std::size_t bytes() const noexcept { return bytes_; }
  const std::vector<outside_range>& list() const noexcept { return list_; }

  /// Of these bytes; false when they are to be copied.
  bool add(std::size_t offset, const void* from, std::size_t n) {
    if (n < worth_it || list_.size() == most) return false;
    list_.push_back({offset, static_cast<const char*>(from), n});
    bytes_ += n;
    return true;
  }

  void clear() noexcept {
    list_.clear();
    bytes_ = 0;
  }

 private:
  std::vector<outside_range> list_;
  std::size_t bytes_ = 0;
};

}  // namespace detail

/// Appends values to a byte_buffer, which must outlive it.
///
/// Distinct objects over distinct buffers: safe. Shared objects: unsafe.
class writer {
 public:
  /// Handles that belong to what is written are added to `handles`, if that is given; otherwise there may be none.
  explicit writer(byte_buffer& out, std::vector<int>* handles = nullptr,
                  detail::borrowed_ranges* borrowed = nullptr) noexcept
      : out_(&out), handles_(handles), borrowed_(borrowed) {}

  /// Appends `n` bytes and returns where they begin; the caller writes them before anything else is appended.
  char* grow(std::size_t n) { return out_->grow(n); }

  void bytes(const void* from, std::size_t n) {
    if (n != 0) std::memcpy(out_->grow(n), from, n);
  }

  /// Appends bytes that are a part of the message itself: large ones may stay where they lie.
  void part(const void* from, std::size_t n) {
    if (borrowed_ == nullptr || !borrowed_->add(out_->size(), from, n)) bytes(from, n);
  }

  /// Has part() copy until the result is called: for a codec that may encode what is gone when it returns.
  detail::borrowed_ranges* copy_parts() noexcept { return std::exchange(borrowed_, nullptr); }
  void borrow_parts(detail::borrowed_ranges* from) noexcept { borrowed_ = from; }

  /// Appends a number in its own width, the lowest byte first.
  template <detail::plain_number T>
  void put(T value) {
    detail::store_number(out_->grow(sizeof value), value);
  }

  /// Appends the number of elements that follow, as 32 bits. Throws errc::message_too_large for one that does not fit.
  void length(std::size_t count) {
    if (count > std::numeric_limits<std::uint32_t>::max()) [[unlikely]]
      detail::fail_size(count);
    put(static_cast<std::uint32_t>(count));
  }

  /// Adds a descriptor, which stays its owner's. Throws errc::too_many_handles beyond 253 of them (SCM_MAX_FD,
  /// unix(7)).
  void handle(int fd) {
    if (handles_ == nullptr) [[unlikely]]
      detail::fail_handle();
    if (handles_->size() == 253) [[unlikely]]
      detail::fail_handle_count();
    handles_->push_back(fd);
  }

  /// Enters one more level of nesting, until the result is destroyed. A codec of a type that can contain itself calls
  /// it. Throws errc::message_too_large beyond max_nesting.
  [[nodiscard]] detail::nesting descend() { return {depth_, true}; }

 private:
  byte_buffer* out_;
  std::vector<int>* handles_;
  detail::borrowed_ranges* borrowed_;
  unsigned depth_ = 0;
};

/// Takes values from bytes that the peer sent, which must outlive it. Everything that the bytes claim is checked before
/// it is believed: errc::malformed with a text that says what was claimed and what is there.
///
/// Distinct objects: safe. Shared objects: unsafe.
class reader {
 public:
  /// `handles`, if they are given, are the descriptors that came along; they are moved out as they are taken.
  reader(const char* data, std::size_t size, std::span<descriptor> handles = {}) noexcept
      : next_(data), end_(data + size), handles_(handles), memory_(size) {}

  /// `size` bytes at `data`, among which those of `outside`, which lie elsewhere, belong.
  reader(const char* data, std::size_t size, const detail::outside_range& outside) noexcept
      : next_(data),
        end_(data + outside.offset),
        outside_(&outside),
        beyond_(outside.size + size - outside.offset),
        memory_(size + outside.size) {}

  std::size_t remaining() const noexcept { return static_cast<std::size_t>(end_ - next_) + beyond_; }
  std::size_t remaining_handles() const noexcept { return handles_.size(); }

  /// The next `n` bytes, in place; good for as long as what the reader reads from.
  const char* take(std::size_t n) {
    if (n > static_cast<std::size_t>(end_ - next_)) [[unlikely]]
      return take_outside(n);
    const char* taken = next_;
    next_ += n;
    return taken;
  }

  template <detail::plain_number T>
  T get() {
    return detail::load_number<T>(take(sizeof(T)));
  }

  /// The next of the descriptors.
  descriptor handle() {
    if (handles_.empty()) [[unlikely]]
      detail::fail_decode("a handle that did not come");
    descriptor taken = std::move(handles_.front());
    handles_ = handles_.subspan(1);
    return taken;
  }

  /// Takes a number of elements, each of which will need `each` bytes or more (1 at least): when it returns, that many
  /// bytes are there. `what` names the whole in the error: "decode: string of 4096 bytes, 12 left".
  std::size_t length(std::size_t each, const char* what = "sequence") {
    const std::size_t count = get<std::uint32_t>();
    if (count > remaining() / each) [[unlikely]]
      detail::fail_length(what, count, each, remaining());
    return count;
  }

  /// How many of `count` elements, in memory of `size` bytes each, to make room for before they have been decoded: so
  /// many that memory stays in proportion to the bytes that have really come.
  std::size_t room_for(std::size_t count, std::size_t size) const noexcept {
    const std::size_t room = remaining() * 8 / size + 1;
    return count < room ? count : room;
  }

  /// Counts `count` elements, of `size` bytes of memory each, that are about to be made. Throws errc::malformed when
  /// the message takes more than max_expansion times its bytes; the first MiB is free. A codec of a type that takes
  /// much more memory than bytes calls it.
  void claim(std::size_t count, std::size_t size) { memory_.take(count * size); }

  /// Enters one more level of nesting, until the result is destroyed; see writer::descend().
  [[nodiscard]] detail::nesting descend() { return {depth_, false}; }

 private:
  /// The bytes that lie elsewhere are taken at once, by whom they have been put there for.
  const char* take_outside(std::size_t n);

  const char* next_;
  const char* end_;  // of the bytes that lie together
  std::span<descriptor> handles_;
  const detail::outside_range* outside_ = nullptr;  // what comes next after them,
  std::size_t beyond_ = 0;                          // and how many bytes there are from there on
  unsigned depth_ = 0;
  detail::decode_budget memory_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "byte_stream.ipp"
#endif
