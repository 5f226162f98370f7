// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"
#include "handle.hpp"

namespace cohort {

/// Bytes that several processes read from the same memory: filled once, then sealed (memfd_create(2), fcntl(2)), so
/// that nobody can change or shorten them any more, not even who has made them.
///
/// Travels as a handle, by send_handle() or as a `handle<shared_buffer>` in a message; the receiver's has been checked
/// for its seals and mapped. It pays for what many read, or what is read more than once: to make a memfd for one
/// message and one reader costs more than to send the bytes.
///
/// Owns the descriptor and the mapping. Reading from several threads is safe. Shared objects otherwise: unsafe.
class shared_buffer {
 public:
  /// The largest buffer that is taken from somewhere else unless the receiver says otherwise, in bytes: 4 GiB.
  static constexpr std::size_t max_received = std::size_t{4} << 30;

  /// None: of size 0, and not to be sent.
  shared_buffer() = default;

  /// Makes one of `size` bytes, which `fill(std::span<char>)` writes; they are 0 before.
  ///
  /// Throws what memfd_create(2), ftruncate(2) and mmap(2) say, and what `fill` throws.
  template <class Fill>
  shared_buffer(std::size_t size, Fill fill)
      : fd_(system::call.memfd_create("cohort", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    if (!fd_) throw_error("shared_buffer: memfd_create", errno);
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
      throw_error("shared_buffer: " + std::to_string(size) + " bytes", errno);
    }
    {
      const mapping writable(fd_.get(), size, PROT_READ | PROT_WRITE);
      fill(std::span<char>(writable.data, size));
    }
    // Not while a writable mapping is left: EBUSY.
    if (::fcntl(fd_.get(), F_ADD_SEALS, seals | F_SEAL_SEAL) != 0) throw_error("shared_buffer: seal", errno);
    map_ = mapping(fd_.get(), size, PROT_READ);
  }

  /// A copy of these bytes.
  explicit shared_buffer(std::string_view bytes)
      : shared_buffer(bytes.size(), [&](std::span<char> to) {
          if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
        }) {}

  /// What a descriptor from somewhere else holds, of `most` bytes at most.
  ///
  /// Throws errc::wrong_handle_kind if it is no memfd whose size and content are sealed: what can change under the
  /// reader is not to be trusted. Throws errc::message_too_large if it is larger than `most`: a sender can make
  /// terabytes of holes for nothing, and to read them takes the reader's memory.
  explicit shared_buffer(descriptor fd, std::size_t most = max_received);

  const char* data() const noexcept { return map_.data; }
  std::size_t size() const noexcept { return map_.size; }
  std::string_view view() const noexcept { return {map_.data, map_.size}; }

  /// The memfd, still this object's; -1 if there is none.
  int native_handle() const noexcept { return fd_.get(); }

  /// Gives up the memfd and the mapping.
  descriptor release() noexcept;

 private:
  static constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

  struct mapping {
    mapping() = default;
    mapping(int fd, std::size_t bytes, int protection);
    mapping(mapping&& other) noexcept
        : data(std::exchange(other.data, nullptr)), size(std::exchange(other.size, 0)) {}
    mapping& operator=(mapping&& other) noexcept;
    ~mapping();
    char* data = nullptr;
    std::size_t size = 0;
  };

  descriptor fd_;
  mapping map_;
};

template <>
struct handle_traits<shared_buffer> {
  static constexpr handle_kind kind = handle_kind::file;
  static int get(const shared_buffer& object) { return object.native_handle(); }
  static descriptor release(shared_buffer& object) { return object.release(); }
  static shared_buffer make(const asio::any_io_executor&, descriptor fd) { return shared_buffer(std::move(fd)); }
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "shared_buffer.ipp"
#endif
