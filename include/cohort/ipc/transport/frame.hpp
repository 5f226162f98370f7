// SPDX-License-Identifier: BSL-1.0
/// The bytes between two processes: a stream of frames, each an 8-byte header and a payload, little-endian.
///
///     u32 payload size | u8 lane | u8 kind | u8 handle count | u8 zero
///
/// A message larger than `max_frame` travels as pieces, so that frames of the control lane pass between them.
/// Descriptors ride as SCM_RIGHTS on a sendmsg whose first frame is `handles`: it says how many there are, and the
/// frames after it take them in order. Lost descriptors (MSG_CTRUNC) therefore never shift to another frame.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cohort::wire {

inline constexpr std::size_t header_size = 8;

/// The largest payload of one frame, in bytes.
inline constexpr std::uint32_t max_frame = 128 * 1024;

/// SCM_MAX_FD: the most descriptors that the kernel passes in one sendmsg (unix(7)).
inline constexpr std::size_t max_handles = 253;

enum class lane : std::uint8_t {
  control = 0,  ///< overtakes what waits in the user lane
  user = 1,
};

enum class kind : std::uint8_t {
  hello = 1,       ///< control: the first frame of each side, once
  message = 2,     ///< user: a message, or the last piece of one: u16 type, then its encoding
  piece = 3,       ///< user: a piece of a message; more follows
  handles = 4,     ///< user: no payload; announces the descriptors that came with its first byte
  lease = 5,       ///< user: u64 id, u8 kind of the handle, u16 type, encoding; takes one descriptor
  adopted = 6,     ///< control: u64 id of a lease that the application has taken over
  refused = 7,     ///< control: u64 id, u8 reason
  revoked = 8,     ///< user: u64 id of a lease whose sender no longer wants it served
  goodbye = 9,     ///< user: no payload; nothing follows in the user lane
  withdrawn = 10,  ///< user: a message that was cancelled before a byte of it was sent; to be skipped
  parcel = 11,     ///< user: u64 id, u16 type, encoding: a message with handles in it, a lease of them all
  ring = 12,      ///< control: u64 capacity; takes one descriptor, alone; what follows is in that ring of shared memory
  pool = 13,      ///< user: u64 bytes; takes one descriptor: the memory that this side lends
  loan = 14,      ///< user: u64 id, u64 offset, u64 count, u64 hash and u32 size of an element, u16 type, encoding
  returned = 15,  ///< control: u64 id of a loan that the application has done with
};

/// What stands in place of a message's type when the message is part of a call. Types are numbered from 0 and end far
/// below (max_announced).
enum class envelope : std::uint16_t {
  request = 0xffff,   ///< u64 id, u16 type, encoding
  progress = 0xfffe,  ///< u64 id of the request, u16 type, encoding; more follows
  reply = 0xfffd,     ///< u64 id of the request, u16 type, encoding
  failure = 0xfffc,   ///< u64 id of the request, u8 reason, text
  cancel = 0xfffb,    ///< u64 id: who has sent this request does not wait any more
};

inline constexpr std::uint16_t first_envelope = 0xfffb;

/// Bytes before what an envelope holds: u16 envelope, u64 id.
inline constexpr std::size_t envelope_size = 10;

/// Why a call has failed on the other side.
enum class call_failure : std::uint8_t {
  thrown = 1,   ///< its handler threw; the text says what
  unknown = 2,  ///< nothing there answers this type of request
};

/// Why a lease came back.
enum class refusal : std::uint8_t {
  declined = 1,    ///< the receiver does not take handles now
  lost = 2,        ///< the receiver's descriptor table is full
  wrong_kind = 3,  ///< the descriptor is not what the sender said
  unknown = 4,     ///< the receiver does not know the message
};

struct header {
  std::uint32_t size = 0;
  wire::lane lane = wire::lane::control;
  wire::kind kind = wire::kind::message;
  std::uint8_t handles = 0;
  std::uint8_t zero = 0;
};

/// The upper half of the header of a message, or of its last piece: what most frames are.
inline constexpr std::uint64_t plain_message =
    std::uint64_t{static_cast<std::uint8_t>(lane::user)} | std::uint64_t{static_cast<std::uint8_t>(kind::message)} << 8;

inline wire::lane lane_of(wire::kind kind) noexcept {
  switch (kind) {
    case kind::hello:
    case kind::adopted:
    case kind::refused:
    case kind::returned:
    case kind::ring: return lane::control;
    default: return lane::user;
  }
}

inline void store(void* to, std::uint64_t value, std::size_t bytes) noexcept {
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(to, &value, bytes);
    return;
  }
  auto* out = static_cast<unsigned char*>(to);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<unsigned char>(value >> (8 * i));
}

inline std::uint64_t load(const void* from, std::size_t bytes) noexcept {
  std::uint64_t value = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&value, from, bytes);
    return value;
  }
  const auto* in = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) value |= std::uint64_t{in[i]} << (8 * i);
  return value;
}

inline void put_header(void* to, wire::kind kind, std::uint32_t size, std::uint8_t handles = 0) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  store(out, size, 4);
  out[4] = static_cast<unsigned char>(lane_of(kind));
  out[5] = static_cast<unsigned char>(kind);
  out[6] = handles;
  out[7] = 0;
}

inline header get_header(const void* from) noexcept {
  const auto* in = static_cast<const unsigned char*>(from);
  header result;
  result.size = static_cast<std::uint32_t>(load(in, 4));
  result.lane = static_cast<wire::lane>(in[4]);
  result.kind = static_cast<wire::kind>(in[5]);
  result.handles = in[6];
  result.zero = in[7];
  return result;
}

/// Whether a correct peer can have sent this header.
inline bool is_valid(const header& h) noexcept {
  const auto kind = static_cast<std::uint8_t>(h.kind);
  if (kind < 1 || kind > 15 || h.zero != 0 || h.size > max_frame || h.lane != lane_of(h.kind)) return false;
  switch (h.kind) {
    case kind::hello:
    case kind::piece:
    case kind::withdrawn: return h.handles == 0;
    case kind::message: return h.handles == 0;
    case kind::handles: return h.handles >= 1 && h.handles <= max_handles && h.size == 0;
    case kind::lease: return h.handles == 1 && h.size >= 11;
    case kind::parcel: return h.handles >= 1 && h.handles <= max_handles && h.size >= 10;
    case kind::adopted:
    case kind::returned:
    case kind::revoked: return h.handles == 0 && h.size == 8;
    case kind::refused: return h.handles == 0 && h.size == 9;
    case kind::goodbye: return h.handles == 0 && h.size == 0;
    case kind::pool:
    case kind::ring: return h.handles == 1 && h.size == 8;
    case kind::loan: return h.handles == 0 && h.size >= 38;
  }
  return false;
}

}  // namespace cohort::wire
