// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "byte_stream.hpp"

#include "../../core/config.hpp"

#include <cerrno>

#include "../../core/error.hpp"

namespace cohort {

COHORT_INLINE const char* reader::take_outside(std::size_t n) {
  if (outside_ == nullptr || next_ != end_ || n != outside_->size) detail::fail_take(n, remaining());
  const char* const taken = outside_->data;
  end_ += beyond_ - n;
  beyond_ = 0;
  outside_ = nullptr;
  return taken;
}

}  // namespace cohort

namespace cohort::detail {

COHORT_INLINE void fail_decode(const std::string& text) { throw_error("decode: " + text, errc::malformed); }

COHORT_INLINE void fail_take(std::size_t wanted, std::size_t left) {
  fail_decode(std::to_string(wanted) + " bytes wanted, " + std::to_string(left) + " left");
}

COHORT_INLINE void fail_length(const char* what, std::size_t count, std::size_t each, std::size_t left) {
  const std::string unit = each == 1 ? " bytes, " : " elements of at least " + std::to_string(each) + " bytes, ";
  fail_decode(what + (" of " + std::to_string(count)) + unit + std::to_string(left) + " left");
}

COHORT_INLINE void fail_value(const char* what, std::uint64_t value) {
  fail_decode(what + (" of value " + std::to_string(value)));
}

COHORT_INLINE void fail_trailing(std::size_t left) {
  fail_decode(std::to_string(left) + (left == 1 ? " byte" : " bytes") + " left after the message");
}

COHORT_INLINE void fail_depth(bool encoding) {
  const std::string text = "nested deeper than " + std::to_string(max_nesting) + " levels";
  if (!encoding) fail_decode(text);
  throw_error("encode: " + text, errc::message_too_large);
}

COHORT_INLINE void fail_budget(std::size_t wanted, std::size_t left) {
  fail_decode("elements of " + std::to_string(wanted) +
              " bytes of memory, more than the bytes that came account for: " + std::to_string(left) + " left of " +
              std::to_string(max_expansion) + " a byte");
}

COHORT_INLINE void fail_probes() { fail_decode("keys that are chosen to fall together in a hash table"); }

COHORT_INLINE void fail_twice(const char* what) { fail_decode(std::string(what) + " with the same key twice"); }

COHORT_INLINE void fail_size(std::size_t count) {
  throw_error("encode: " + std::to_string(count) + " elements", errc::message_too_large);
}

COHORT_INLINE void fail_handle() {
  throw_error("encode: a handle, which only a message that is named to send() can hold", EINVAL);
}

COHORT_INLINE void fail_handle_count() { throw_error("encode: 254 handles", errc::too_many_handles); }

}  // namespace cohort::detail
