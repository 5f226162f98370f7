// SPDX-License-Identifier: BSL-1.0
/// V8's structured clone format, of which Node's `advanced` serialization makes frames: what of it has a meaning in
/// JSON.
///
/// | JavaScript                       | here                                                                      |
/// |----------------------------------|---------------------------------------------------------------------------|
/// | undefined, hole                  | nothing as a member of an object, else null                               |
/// | bigint                           | an integer; and an integer beyond 2^53 is sent as a bigint                |
/// | Date                             | the text of its toISOString(), null for an invalid one                    |
/// | Set, Map                         | an array; an array of pairs                                               |
/// | Number, String, Boolean objects  | the value                                                                 |
/// | Buffer, typed array, ArrayBuffer | a binary value with a subtype of v8_buffer, which is sent as what it was  |
/// | the same object twice            | twice; within itself is an error                                          |
/// | RegExp, Error and others         | an error                                                                  |
///
/// A binary value without a subtype is sent as a Buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../json.hpp"

namespace cohort {

/// The subtypes of binary values: V8's numbers for what looks at bytes, and one more for the bytes themselves.
enum class v8_buffer : std::uint8_t {
  int8_array = 0,
  uint8_array = 1,
  uint8_clamped_array = 2,
  int16_array = 3,
  uint16_array = 4,
  int32_array = 5,
  uint32_array = 6,
  float32_array = 7,
  float64_array = 8,
  data_view = 9,
  buffer = 10,  ///< Node's
  big_int64_array = 11,
  big_uint64_array = 12,
  array_buffer = 255
};

namespace detail {

/// Appends the header and the value to `to`, which begins on an even offset of what is sent. Throws EINVAL for a value
/// that check_json() refuses, and for a binary value with a subtype that is none of v8_buffer.
void to_v8(std::string& to, const json& value);

/// Throws errc::malformed, with a text that names the offset, for what is cut off, not of versions 13 to 15, deeper
/// than max_json_depth, larger than what it refers back to allows, or of a kind that has no meaning here.
json from_v8(std::string_view bytes);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "v8_reader.ipp"
#include "v8_writer.ipp"
#endif
