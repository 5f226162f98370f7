// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <sys/socket.h>

#include "../../core/descriptor.hpp"
#include "frame.hpp"
#include "ring.hpp"

namespace cohort::detail {

/// Carries the stream of a channel: over its socket, or, from a frame of kind `ring` on, through a ring of shared
/// memory in either direction. Whoever reads and writes here need not know which it is. Knows no loop.
///
/// Each direction has a ring of its own, which belongs to the side that writes into it. That side passes it along with
/// the last frame that it writes to the socket. What the socket carries in that direction from then on are single
/// bytes: a bell, for a side that has said in the ring that it sleeps, or the carrier of descriptors. Descriptors are
/// sent before the frame that announces them is published, and no others until the reader has got there. The end of
/// the socket is the end of the stream: what a ring holds then is read first.
///
/// The socket is the owner's, who waits for it.
class byte_transport {
 public:
  explicit byte_transport(int socket) noexcept : socket_(socket) {}

  byte_transport(const byte_transport&) = delete;
  byte_transport& operator=(const byte_transport&) = delete;
  ~byte_transport() { close_parked(); }

  /// Reads as recvmsg(2) does that never blocks. Throws errc::malformed for what no correct peer writes into a ring.
  ssize_t read(msghdr& message);

  /// Writes as sendmsg(2) does that never blocks. EPROTO: the peer has written into the ring what no correct one does.
  ssize_t write(const msghdr& message) noexcept;

  // -- going over to rings ----------------------------------------------------------------------------------------

  /// Makes a ring for what is written here. Throws what the system says.
  void make_ring(std::size_t capacity);

  /// Whether a ring has been made for what is written here.
  bool has_ring() const noexcept { return out_ || offered_; }

  /// Whether the ring is to be passed to the peer now, between two frames.
  bool has_offer() const noexcept { return offered_ && greeted_; }

  /// Passes it; false when that fails, errno says why.
  bool send_offer() noexcept;

  /// Takes the ring that the peer writes into. Throws errc::malformed.
  void attach(const descriptor& memory, std::uint64_t capacity);

  bool reads_ring() const noexcept { return in_.has_value(); }

  /// Whether this side writes into a ring and does not read from one yet: the peer has one to offer, too.
  bool awaits_ring() const noexcept { return has_ring() && !in_; }

  // -- waiting: for the socket to be readable -----------------------------------------------------------------------

  /// To be called before somebody waits for input; false when there is some.
  bool may_wait_for_input() noexcept;

  /// To be called behind that, however the waiting ended. True: a bell was heard, which may be for who waits for room.
  bool end_wait_for_input() noexcept;

  enum class room_wait {
    writable,  ///< wait until the socket is writable
    readable,  ///< wait until the socket is readable, then call hear_bells()
    none,      ///< there is room
    later,     ///< nobody will say so: look again after a while
  };

  /// How to wait for room after write() has said EAGAIN.
  room_wait wait_for_room() noexcept;

  /// Takes the bells out of the socket. True: there was one, which may be for who waits for input.
  bool hear_bells() noexcept;

  /// Rings a bell that the kernel has refused before; false when it still does.
  bool ring_due() noexcept;

  /// The owner closes the socket.
  void close() noexcept;

 private:
  using control_bytes = std::array<char, CMSG_SPACE(wire::max_handles * sizeof(int))>;

  /// Descriptors that have been read from the socket, and that a frame in the ring is still to announce.
  struct parked {
    alignas(cmsghdr) control_bytes control;
    std::size_t size = 0;
    int flags = 0;
    bool is_there = false;
  };

  ssize_t read_socket(msghdr& message) noexcept;

  /// Reads what the socket carries beside the ring; as recvmsg(2).
  ssize_t read_beside() noexcept;

  /// Hands over the descriptors that came for the frame which is read next. False: not now, errno says why.
  bool take_parked(msghdr& message, std::size_t room);

  void close_parked() noexcept;

  /// Rings the bell for the peer; false when the kernel refuses it for now.
  bool ring_bell() noexcept;

  bool is_hung_up() const noexcept;

  int socket_;
  std::optional<ring_memory> offered_;
  descriptor offered_fd_;
  std::optional<ring_writer> out_;
  std::optional<ring_reader> in_;
  parked parked_;
  bool greeted_ = false;    // something has been written to the socket
  bool at_end_ = false;     // the socket is
  bool broken_ = false;     // the peer has sent descriptors where none may be
  bool peer_gone_ = false;  // a bell has found nobody
  bool bell_due_ = false;
  bool lacks_handles_ = false;  // that are announced and have not come
  std::size_t offer_sent_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "byte_transport.ipp"
#endif
