// SPDX-License-Identifier: BSL-1.0
/// What a stream has read from its socket and not yet given to its reader: the customization point of
/// worker::readable().
#pragma once

#include <type_traits>

#include "../core/asio.hpp"

namespace cohort {

/// Whether a stream holds input that its socket no longer shows. Streams with a buffer of their own specialize it with
/// a member `static bool holds(Stream&)`, which is called on the executor of the stream while nobody reads from it, and
/// does not wait. net/tls.hpp does so for asio::ssl::stream.
template <class Stream>
struct buffered_input {
  static_assert(std::is_base_of_v<typename Stream::lowest_layer_type, Stream>,
                "cohort: this stream may hold input of which its socket knows nothing: include cohort/net/tls.hpp for "
                "asio::ssl::stream, or specialize cohort::buffered_input");

  static bool holds(Stream&) noexcept { return false; }
};

}  // namespace cohort
