// SPDX-License-Identifier: BSL-1.0
/// Memory that one side of a channel fills and the other reads, without a copy: see channel::loan().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "codec/detail/reflect.hpp"
#include "codec/detail/shape.hpp"
#include "transport/borrowed_memory.hpp"
#include "transport/loan_memory.hpp"
#include "transport/loan_pool.hpp"

namespace cohort {
namespace detail {

template <class T>
consteval loan_type make_loan_type() {
  static_assert(std::is_trivially_copyable_v<T>,
                "cohort: what is lent is read by another process as it lies: the type must be trivially copyable");
  static_assert(!std::is_const_v<T> && !std::is_volatile_v<T>, "cohort: a loan is of a plain type, without const");
  static_assert(!std::is_pointer_v<T> && !std::is_member_pointer_v<T>,
                "cohort: a pointer means nothing to another process: lend what it points to");
  static_assert(alignof(T) <= loan_unit, "cohort: a loan is aligned to 64 bytes, and this type wants more");
  constexpr std::string_view name = type_name<T>();
  constexpr bool is_named = (std::is_class_v<T> || std::is_enum_v<T>) && !name.starts_with("std::");
  constexpr std::uint64_t what = std::is_floating_point_v<T> ? 1 : std::is_integral_v<T> ? 2 : 3;
  return {mix(mix(what, is_named ? hash_text(name) : std::uint64_t{0}), sizeof(T)), sizeof(T)};
}

template <class T>
inline constexpr loan_type loan_type_of = make_loan_type<T>();

}  // namespace detail

/// Memory of `count` elements to be filled and sent: what channel::loan() gives. It is not initialised: it holds what
/// this side has written there before.
///
/// Not sent, its memory goes back to the pool in the destructor. It may outlive its channel. To be destroyed on the
/// channel's executor.
template <class T>
class loan {
 public:
  using value_type = T;

  /// Of no elements, and not to be sent.
  loan() = default;
  loan(detail::loan_piece piece, std::size_t count) noexcept : piece_(std::move(piece)), count_(count) {}

  loan(loan&&) noexcept = default;
  loan& operator=(loan&& other) noexcept {
    loan taken(std::move(other));
    std::swap(piece_, taken.piece_);
    std::swap(count_, taken.count_);
    return *this;
  }

  T* data() const noexcept { return reinterpret_cast<T*>(piece_.data()); }
  std::size_t size() const noexcept { return piece_.data() == nullptr ? 0 : count_; }
  std::span<T> span() const noexcept { return {data(), size()}; }
  T& operator[](std::size_t i) const noexcept { return data()[i]; }
  T* begin() const noexcept { return data(); }
  T* end() const noexcept { return data() + size(); }

  /// Whether it has memory: it has been neither sent nor moved from.
  explicit operator bool() const noexcept { return piece_.data() != nullptr; }

  /// What channel::send() sends.
  detail::loan_piece& piece() noexcept { return piece_; }

 private:
  detail::loan_piece piece_;
  std::size_t count_ = 0;
};

/// Memory that the peer has lent, to be read: what channel::receive_loan() gives. The destructor gives it back.
///
/// The elements are what the peer has written, any bits: a bool or an enumeration among them may have a value that it
/// must not have. A hostile peer may write there while this side reads, so that what has been checked may be something
/// else when it is used; channel_options::copy_loans is for that.
///
/// It may outlive its channel, and holds the mapping of the peer's pool. To be destroyed on the channel's executor.
template <class T>
class loan_view {
 public:
  using value_type = T;

  /// Of no elements.
  loan_view() = default;
  loan_view(detail::borrowed_piece piece, std::size_t count) noexcept : piece_(std::move(piece)), count_(count) {}

  const T* data() const noexcept { return reinterpret_cast<const T*>(piece_.data()); }
  std::size_t size() const noexcept { return piece_.data() == nullptr ? 0 : count_; }
  std::span<const T> span() const noexcept { return {data(), size()}; }
  const T& operator[](std::size_t i) const noexcept { return data()[i]; }
  const T* begin() const noexcept { return data(); }
  const T* end() const noexcept { return data() + size(); }

  /// Gives the memory back now. The view is empty then.
  void give_back() noexcept { piece_.give_back(); }

 private:
  detail::borrowed_piece piece_;
  std::size_t count_ = 0;
};

}  // namespace cohort
