// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

#include "../../core/config.hpp"
#include "../codec/byte_buffer.hpp"
#include "../codec/byte_stream.hpp"
#include "byte_transport.hpp"
#include "fifo.hpp"
#include "frame.hpp"

namespace cohort::detail {

/// What waits to be written to a channel's socket, and the writing of it. Knows no loop and no type of message.
///
/// User messages are numbered by tickets, in order. They stand in runs (whole small frames, one behind the other, so
/// that a batch is one buffer) or, when large, in a segment of their own that is cut into pieces as it is written.
/// A batch of frames is fixed when it is formed: what is in it has begun, and will be sent whole.
class outbox {
 public:
  using ticket = std::uint64_t;
  static constexpr ticket never = ~ticket{0};

  enum class outcome {
    done,     ///< nothing is left
    blocked,  ///< there is no room: see byte_transport::wait_for_room()
    more,     ///< the socket takes more, but it was a lot for one turn of the loop: go on in the next
    starved,  ///< the kernel is short of memory or of descriptors in flight: go on after a while
    failed,   ///< errno says why; nothing can be sent any more
  };

  /// A message whose descriptors the kernel does not pass.
  struct refused {
    ticket which;
    int error;
  };

  outbox();

  /// Queues a frame in the control lane.
  void control(wire::kind kind, const void* payload, std::size_t size);

  /// Queues a user frame whose payload `encode(byte_buffer&)` appends in place. What it throws leaves nothing behind.
  template <class Encode>
  ticket append(wire::kind kind, Encode&& encode) {
    segment& run = open_run();
    const std::size_t start = run.bytes.size();
    run.bytes.grow(wire::header_size);
    try {
      encode(run.bytes);
    } catch (...) {
      run.bytes.truncate(start);
      throw;
    }
    const std::size_t size = run.bytes.size() - start - wire::header_size;
    if (size > wire::max_frame) {  // rare: the caller could not know; it goes on as a segment of its own
      byte_buffer payload;
      std::memcpy(payload.grow(size), run.bytes.data() + start + wire::header_size, size);
      run.bytes.truncate(start);
      return append(kind, std::move(payload));
    }
    wire::put_header(run.bytes.data() + start, kind, static_cast<std::uint32_t>(size));
    waiting_bytes_ += wire::header_size + size;
    return run.last = ++appended_;
  }

  /// Queues a user frame with the given payload.
  ticket append(wire::kind kind, byte_buffer payload);

  /// Queues a message with parts that lie elsewhere, and have to lie there until it is completed, withdrawn or kept.
  ticket append(byte_buffer payload, std::vector<outside_range> parts);

  /// Queues a lease or a parcel with the descriptors that ride with it, 253 at most. They stay the caller's, open until
  /// they are written or withdrawn.
  ticket append_handles(wire::kind kind, const byte_buffer& payload, std::span<const int> fds);

  /// Takes a message back; false when it has begun to be sent.
  bool withdraw(ticket which);

  /// Copies what is left to be sent of the parts of a message that lie elsewhere: they may go away afterwards.
  void keep(ticket which);

  /// Whether a message waits that has parts which lie elsewhere.
  bool has_lent() noexcept;

  /// The last message that was queued.
  ticket appended() const noexcept { return appended_; }

  /// A ticket that is completed when everything that is queued now has been written, the control lane included.
  ticket mark();

  /// The last message of which the kernel may have a part.
  ticket begun() const noexcept { return begun_; }

  /// The last message that the kernel has whole.
  ticket completed() const noexcept { return completed_; }

  /// Bytes queued in the control lane since the last batch was formed: answers to what the peer has sent.
  std::size_t control_bytes() const noexcept { return control_.size(); }

  /// Bytes queued and not yet in the kernel.
  std::size_t waiting_bytes() const noexcept { return waiting_bytes_; }

  bool empty() const noexcept { return batch_.vectors.empty() && control_.size() == 0 && segments_.empty(); }

  /// Writes until nothing is left, the socket takes no more, or `turn_bytes` are written: a peer that reads as fast as
  /// this writes would else hold the loop for the whole of a large message. Never blocks, and throws nothing.
  ///
  /// A message whose descriptors the kernel refuses is withdrawn, for take_refused(), and the others are written.
  outcome write(byte_transport& to);

  /// The messages that have been refused since the last call.
  std::vector<refused> take_refused() { return std::exchange(refused_, {}); }
  bool has_refused() const noexcept { return !refused_.empty(); }

 private:
  static constexpr std::size_t batch_bytes = 256 * 1024;
  static constexpr std::size_t turn_bytes = 1024 * 1024;
  static constexpr std::size_t batch_vectors = 64;

  struct segment {
    byte_buffer bytes;                                 // a run's frames, or the payload of one large message,
    std::vector<outside_range> parts;                  // but for these
    byte_buffer kept;                                  // the parts, when their owner has gone
    std::size_t size = 0;                              // of a large message, with its parts
    std::vector<std::pair<std::size_t, int>> handles;  // of a run: where the frame starts, and its descriptor
    ticket first = 0;                                  // the messages in it
    ticket last = 0;
    std::size_t sent = 0;         // of a large one: bytes in batches so far,
    std::size_t sent_before = 0;  // and without the one under way
    bool large = false;
    bool sealed = false;  // part of a batch: nothing may be appended
    bool dropped = false;
  };

  /// Frames that are written together.
  struct batch {
    std::vector<iovec> vectors;
    std::size_t next = 0;  // vector to be written
    std::size_t size = 0;
    std::size_t segments = 0;  // that are in it to their end
    std::size_t pieces = 0;
    ticket last = 0;  // message that is in it to its end
    ticket begun_before = 0;
    byte_buffer control;
    std::vector<int> handles;  // not yet with the kernel
    std::array<unsigned char, wire::header_size> announcement{};
    std::array<std::array<unsigned char, wire::header_size>, 8> headers{};
  };

  segment& open_run();

  void add(const void* data, std::size_t size);

  /// Makes the next batch unless one is under way; false when there is nothing to send.
  bool form_batch();

  /// Adds pieces of a large message; false when some are left for the next batch.
  bool add_pieces(segment& large);

  /// Adds `size` bytes of a large message, from `at` on, wherever they lie.
  void add_bytes(const segment& large, std::size_t at, std::size_t size);

  void put_handles(msghdr& message, char* ancillary);

  /// Whether a descriptor can be why sendmsg has failed.
  static bool is_about_handles(int error) noexcept;

  /// The kernel has refused a batch with handles, now dissolved: withdraws the message that it is about, or sees to it
  /// that the next batch tells more.
  void find_refused(int error);

  /// What a write that has failed with this errno means.
  static outcome outcome_of(int error) noexcept;

  /// Cuts a run behind its first frame with handles.
  void cut_behind_handles(fifo<segment>::iterator run);

  /// The message whose frame begins at `offset` of a run.
  static ticket ticket_at(const segment& run, std::size_t offset) noexcept;

  void advance(std::size_t sent);

  /// Undoes form_batch() while nothing of the batch is with the kernel.
  void dissolve_batch();

  void finish_batch();

  byte_buffer control_;
  fifo<segment> segments_;
  byte_buffer spare_;  // the storage of the last run, for the next one
  std::size_t waiting_bytes_ = 0;
  ticket appended_ = 0;
  ticket begun_ = 0;
  ticket completed_ = 0;
  batch batch_;
  std::vector<refused> refused_;
  bool one_at_a_time_ = false;  // one message with handles in a batch, to find the one that the kernel refuses
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "outbox.ipp"
#endif
