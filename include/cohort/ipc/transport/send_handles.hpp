// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <system_error>
#include <type_traits>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../handle.hpp"
#include "encoded_message.hpp"

namespace cohort {

class link;

/// Hears of one of the handles that channel::send_handles() gives, by its place among them, and what became of it. Must
/// not throw.
using handle_ended = std::function<void(std::size_t which, std::error_code error)>;

namespace detail {

/// An object that owns a descriptor, of any type that has handle_traits. Refers to it.
class handle_ref {
 public:
  /// With `give`, the object loses its descriptor when the peer has taken it.
  template <class Handle>
  handle_ref(Handle& object, bool give)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(object)))), get_(&get<Handle>) {
    if constexpr (!std::is_const_v<Handle>) {
      if (give) release_ = &release<Handle>;
    }
  }

  /// The descriptor and what it is; -1 if the object is not open.
  int get(handle_kind& kind) const { return get_(object_, kind); }

  void taken() const {
    if (release_ != nullptr) const descriptor closing = release_(object_);
  }

 private:
  template <class Handle>
  static int get(void* object, handle_kind& kind) {
    using traits = handle_traits<std::remove_cv_t<Handle>>;
    Handle& from = *static_cast<Handle*>(object);
    const int fd = traits::get(from);
    kind = traits::kind;
    if constexpr (std::is_same_v<std::remove_cv_t<Handle>, any_handle>) {
      kind = from.kind();
    } else if (traits::kind == handle_kind::descriptor) {
      if (fd >= 0) kind = kind_of(fd);
    }
    return fd;
  }

  template <class Handle>
  static descriptor release(void* object) {
    return handle_traits<Handle>::release(*static_cast<Handle*>(object));
  }

  void* object_;
  int (*get_)(void*, handle_kind&);
  descriptor (*release_)(void*) = nullptr;
};

/// Bytes before the message in a lease: u64 number, u8 kind of the handle; in a parcel, the number alone.
inline constexpr std::size_t lease_head = 9;
inline constexpr std::size_t parcel_head = 8;

/// Gives an object to the peer with a message of type number `type`, encoded behind lease_head bytes; see
/// channel::send_handle().
asio::awaitable<void> send_handle(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                  handle_ref object);

/// The same for many at once; see channel::send_handles(). `ended` may be none.
asio::awaitable<std::vector<std::error_code>> send_handles(std::shared_ptr<link> self, std::size_t type,
                                                           encoded_message message, std::vector<handle_ref> objects,
                                                           handle_ended ended);

/// Sends a message with handles in it, and calls `taken(object)` when the peer has it, unless that is null; see
/// channel::send().
asio::awaitable<void> send_parcel(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                  void (*taken)(void*), void* object);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "send_handles.ipp"
#endif
