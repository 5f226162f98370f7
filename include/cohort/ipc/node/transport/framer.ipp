// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "framer.hpp"

#include "../../../core/config.hpp"

#include <algorithm>
#include <cstring>

#include "../../../core/error.hpp"
#include "../serialization/json_text.hpp"
#include "../serialization/v8.hpp"

namespace cohort::detail {

inline constexpr std::size_t v8_length_size = 4;  // big-endian, without itself

COHORT_INLINE std::string to_node_frame(const json& value, const node_options& options) {
  std::string frame;
  std::size_t size = 0;
  if (options.serialization == node_serialization::json_lines) {
    frame = to_json_line(value);
    size = frame.size() - 1;
  } else {
    frame.resize(v8_length_size);
    to_v8(frame, value);
    size = frame.size() - v8_length_size;
    for (std::size_t index = 0; index < v8_length_size; ++index) {
      frame[index] = static_cast<char>(size >> (8 * (v8_length_size - 1 - index)) & 0xFF);
    }
  }
  if (size <= options.max_message) return frame;
  throw_error("send: a message of " + std::to_string(size) + " bytes, at most " + std::to_string(options.max_message),
              errc::message_too_large);
}

COHORT_INLINE std::span<char> node_framer::prepare(std::size_t size) {
  if (begin_ == end_) {
    constexpr std::size_t worth_keeping = 1024 * 1024;
    if (buffer_.size() > worth_keeping) std::string().swap(buffer_);
    begin_ = end_ = searched_ = 0;
  }
  if (buffer_.size() - end_ < size && begin_ > (end_ - begin_)) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    searched_ -= std::min(searched_, begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < size) buffer_.resize(std::max(end_ + size, buffer_.size() * 2));
  return {buffer_.data() + end_, buffer_.size() - end_};
}

COHORT_INLINE std::optional<std::string_view> node_framer::next() {
  const char* const data = buffer_.data();
  const std::size_t there = end_ - begin_;
  if (!lines_) {
    if (there < v8_length_size) return std::nullopt;
    std::size_t size = 0;
    for (std::size_t index = 0; index < v8_length_size; ++index) {
      size = size << 8 | static_cast<unsigned char>(data[begin_ + index]);
    }
    if (size > max_message_) too_large(size);
    if (there - v8_length_size < size) return std::nullopt;
    const std::string_view result(data + begin_ + v8_length_size, size);
    begin_ += v8_length_size + size;
    return result;
  }
  searched_ = std::max(searched_, begin_);
  const void* const found = searched_ == end_ ? nullptr : std::memchr(data + searched_, '\n', end_ - searched_);
  const std::size_t line_end =
      found == nullptr ? end_ : static_cast<std::size_t>(static_cast<const char*>(found) - data);
  if (line_end - begin_ > max_message_) too_large(line_end - begin_);
  searched_ = line_end;
  if (found == nullptr) return std::nullopt;
  const std::string_view result(data + begin_, line_end - begin_);
  begin_ = line_end + 1;
  return result;
}

COHORT_INLINE json node_framer::decode(std::string_view message) const {
  return lines_ ? from_json_line(message) : from_v8(message);
}

COHORT_INLINE void node_framer::too_large(std::size_t size) const {
  throw_error("receive: a message of " + std::to_string(size) + " bytes or more, at most " +
                  std::to_string(max_message_),
              errc::message_too_large);
}

}  // namespace cohort::detail
