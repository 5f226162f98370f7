// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <string_view>
#include <utility>

namespace cohort {

/// A growing array of bytes whose new bytes are not set to zero first, which a std::vector<char> would do.
///
/// Memory at least doubles when it is short, and is kept by clear(). A pointer into the buffer is good until the next
/// grow() or reserve(). Throws std::bad_alloc when there is no memory, and is unchanged then.
///
/// Distinct objects: safe. Shared objects: unsafe.
class byte_buffer {
 public:
  byte_buffer() = default;

  byte_buffer(byte_buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}

  byte_buffer& operator=(byte_buffer&& other) noexcept {
    byte_buffer taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    std::swap(capacity_, taken.capacity_);
    return *this;
  }

  ~byte_buffer() {
    if (data_ != nullptr) std::free(data_);
  }

  char* data() noexcept { return data_; }
  const char* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  bool empty() const noexcept { return size_ == 0; }
  std::string_view view() const noexcept { return {data_, size_}; }

  /// Appends `n` bytes without a value and returns where they begin; the caller writes them.
  char* grow(std::size_t n) {
    if (n > capacity_ - size_) [[unlikely]]
      enlarge(n);
    char* added = data_ + size_;
    size_ += n;
    return added;
  }

  /// Makes room for `n` bytes more.
  void reserve(std::size_t n) {
    if (n > capacity_ - size_) [[unlikely]]
      enlarge(n);
  }

  /// Drops the bytes from `size` on; `size` must not be above size().
  void truncate(std::size_t size) noexcept { size_ = size; }

  /// Drops all bytes and keeps the memory.
  void clear() noexcept { size_ = 0; }

 private:
  [[gnu::noinline, gnu::cold]] void enlarge(std::size_t n) {
    constexpr std::size_t limit = std::numeric_limits<std::ptrdiff_t>::max();
    if (n > limit - size_) throw std::bad_alloc();
    std::size_t capacity = capacity_ < 128 ? 256 : capacity_ > limit / 2 ? limit : capacity_ * 2;
    if (capacity < size_ + n) capacity = size_ + n;
    void* moved = std::realloc(data_, capacity);
    if (moved == nullptr) throw std::bad_alloc();
    data_ = static_cast<char*>(moved);
    capacity_ = capacity;
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace cohort
