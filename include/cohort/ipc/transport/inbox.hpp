// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../codec/byte_buffer.hpp"
#include "arrived.hpp"
#include "assembly.hpp"
#include "byte_transport.hpp"
#include "frame.hpp"
#include "landing.hpp"
#include "loan_memory.hpp"
#include "numbered_fifo.hpp"
#include "stored_message.hpp"
#include "unclaimed_handles.hpp"

namespace cohort::detail {

/// What has been read from a channel's socket. Knows no loop and no type of message.
///
/// Messages stay in the buffer that they were read into until they are taken. What no correct peer sends throws
/// errc::malformed or errc::message_too_large; drop_handles() then closes the descriptors that came along.
///
/// A correct peer numbers its calls and its leases upwards, so whatever it takes back is found by its number.
class inbox {
 public:
  using stored = stored_message;

  enum class outcome {
    data,     ///< something was read, more may be there
    drained,  ///< something was read, and it was all
    empty,    ///< nothing to read now
    end,      ///< the peer is gone
  };

  explicit inbox(std::uint32_t max_message) : max_message_(max_message) {}

  /// Reads once, never blocking, and sorts what came: messages, requests and leases are kept here, the rest goes to
  /// `sink`, which has on_hello(data, size), on_adopted(id), on_refused(id, reason), on_revoked(id), on_goodbye(),
  /// on_lease(lease), on_parcel(parcel) (false: not to be kept), on_answer(envelope, id, stored), on_cancel(id),
  /// on_ring(memory, capacity), on_pool(memory, size), on_loan(data, size), on_returned(id).
  template <class Sink>
  outcome read(byte_transport& from, Sink& sink) {
    alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))];
    std::array<iovec, 3> parts;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = next_room(parts);
    message.msg_control = ancillary;
    message.msg_controllen = sizeof ancillary;
    std::size_t room = 0;
    for (std::size_t i = 0; i < message.msg_iovlen; ++i) room += parts[i].iov_len;
    const ssize_t got = from.read(message);
    if (got < 0) {
      // Short of memory, there is nothing to read for now: the socket stays readable, and is asked again.
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM) return outcome::empty;
      // A peer that dies with unread bytes of ours resets the pair; all that it had sent has been read by then.
      if (errno == ECONNRESET) return outcome::end;
      throw_error("receive: recvmsg", errno);
    }
    const bool came_with_handles = handles_.take_from(message);
    if (got == 0) return outcome::end;
    const auto size = static_cast<std::size_t>(got);
    chunks_.back()->filled += count_piece(size);
    if (piece_ended_) end_piece(sink);
    sort(*chunks_.back(), sink);
    // The kernel ends a read behind bytes that carry descriptors, so a short one then says nothing.
    return size == room || came_with_handles ? outcome::data : outcome::drained;
  }

  bool has_message() const noexcept { return !messages_.empty(); }
  stored& first_message() noexcept { return messages_.front(); }

  /// Has the large part of the next message that it fits read to where it belongs, until lift(). False if another one
  /// is to be read so already. `where` must stay where it is.
  bool land(const landing& where) noexcept;

  /// Takes the part that has been read so, or some of it, in here.
  void lift();

  /// Reads nothing there any more.
  void stop_landing() noexcept { landing_ = nullptr; }

  /// The part of the first message that lies elsewhere; null if it has none.
  const outside_range* landed() const noexcept { return landed_ ? &*landed_ : nullptr; }

  /// Lets go of a message that has been taken from here; its bytes are gone with it.
  void drop(stored& message);

  /// Drops the first message.
  void pop_message();

  /// Drops the first message if others lie right behind it; false if not.
  bool pop_of_several() noexcept {
    stored& first = messages_.front();
    if (first.more == 0) return false;
    stored_bytes_ -= first.size;
    --stored_;
    --first.more;
    first.data += first.size + wire::header_size;
    first.size = wire::load(first.data - wire::header_size, 4);
    return true;
  }

  void drop_messages();

  /// Drops the request with this number; false if it is not here any more.
  bool drop_request(std::uint64_t id);

  /// Drops the message whose handles came with this number, if it is still here.
  void drop_parcel(std::uint64_t id);

  bool has_lease() const noexcept { return !leases_.empty(); }
  void keep_lease(arrived_lease lease);

  /// Takes the first lease. There must be one.
  arrived_lease pop_lease();

  /// Drops the lease with this number, if it is still here.
  void drop_lease(std::uint64_t id);

  /// Takes all leases, one after the other, calling `f` with the number of each.
  template <class F>
  void drop_leases(F&& f) {
    while (has_lease()) f(pop_lease().id);
  }

  /// Closes all descriptors that are here: leases, messages with handles in them, and what no frame has taken yet.
  void drop_handles();

  /// Closes the descriptors that no frame has taken yet.
  void drop_unclaimed() noexcept { handles_.clear(); }

  /// Bytes of messages, leases and answers that wait to be taken.
  std::size_t stored_bytes() const noexcept { return stored_bytes_; }

  /// Memory that is in use because of them, about: with what it takes to keep them in order.
  std::size_t stored_memory() const noexcept { return stored_bytes_ + stored_ * overhead; }

  /// Memory of the buffers that they lie in. One of them may keep a whole buffer.
  std::size_t buffer_memory() const noexcept { return chunks_.size() * chunk_size; }

  /// Descriptors in leases and messages that wait to be taken.
  std::size_t stored_handles() const noexcept { return leases_.size() + parcel_handles_; }

  /// Whether the stream stands inside a frame or a message.
  bool is_torn() const noexcept;

  /// Requests that nobody has begun to answer, their envelopes around them, by their numbers.
  numbered_fifo<stored> requests;

 private:
  static constexpr std::size_t chunk_size = input_chunk::size;

  // Fresh memory for each large message costs more than the copying.
  static constexpr std::size_t kept_assembly = 4 * 1024 * 1024;

  // Read at a time where most of what follows goes somewhere else.
  static constexpr std::size_t first_look = 1024;

  // What a message takes in a queue at most, whose memory doubles when it is full.
  static constexpr std::size_t overhead = 2 * (sizeof(stored) + 16);

  using chunk = input_chunk;

  [[noreturn]] static void malformed(const std::string& what) { throw_error("receive: " + what, errc::malformed); }

  [[noreturn]] void too_large() const;

  /// Where the next bytes go: the rest of a piece to the message that it is a part of, all else to a chunk. Returns how
  /// many of the parts it has set.
  std::size_t next_room(std::array<iovec, 3>& parts);

  /// Counts what has been read as the rest of a piece; returns how much of it was more than that.
  std::size_t count_piece(std::size_t read);

  /// Copies the beginning of a piece.
  void put_piece(const char* from, std::size_t size);

  /// Whether the message whose first frame this is has a part that lands.
  bool lands(const wire::header& header, const char* payload, std::size_t here) const noexcept;

  /// Makes room where the part lands, for what has been announced to come now and in proportion to what has come.
  void make_landing_room();

  chunk& writable_chunk();

  void release(chunk& home);

  template <class Sink>
  void sort(chunk& from, Sink& sink) {
    for (;;) {
      keep_plain(from);
      if (from.filled - from.parsed < wire::header_size) break;
      const char* at = from.data.get() + from.parsed;
      const wire::header header = wire::get_header(at);
      if (!wire::is_valid(header) || greeted_ == (header.kind == wire::kind::hello)) {
        malformed("frame of kind " + std::to_string(static_cast<int>(header.kind)) + ", size " +
                  std::to_string(header.size) + ", " + std::to_string(header.handles) + " handles");
      }
      const std::size_t here = std::min<std::size_t>(header.size, from.filled - from.parsed - wire::header_size);
      const bool is_piece = header.kind == wire::kind::piece;
      if (is_piece || (header.kind == wire::kind::message && assembly_.size != 0)) {
        begin_piece(from, header, sink);
        continue;
      }
      if (here < header.size) {
        if (header.kind != wire::kind::message || !lands(header, at + wire::header_size, here)) break;
        begin_piece(from, header, sink);
        continue;
      }
      from.parsed += wire::header_size + header.size;
      take(from, header, at + wire::header_size, sink);
      if (header.kind == wire::kind::ring && from.parsed != from.filled) malformed("bytes behind a ring");
    }
    // Descriptors come with the first byte of the frame that announces them, the rest of which may still be to come.
    if (handles_.unannounced() > (from.filled == from.parsed ? 0u : 1u))
      malformed("descriptors that no frame announces");
  }

  template <class Sink>
  void take(chunk& from, const wire::header& header, const char* payload, Sink& sink) {
    switch (header.kind) {
      case wire::kind::hello:
        greeted_ = true;
        sink.on_hello(payload, header.size);
        break;
      case wire::kind::message:
        if (said_goodbye_) malformed("message after goodbye");
        if (header.size > max_message_) too_large();
        keep(stored{payload, header.size, 0, &from, {}, {}}, sink);
        break;
      case wire::kind::parcel:
        if (said_goodbye_) malformed("message after goodbye");
        take_parcel(from, header, payload, sink);
        break;
      case wire::kind::handles: handles_.announce(header.handles); break;
      case wire::kind::lease:
        if (said_goodbye_) malformed("lease after goodbye");
        take_lease(header, payload, sink);
        break;
      case wire::kind::adopted: sink.on_adopted(wire::load(payload, 8)); break;
      case wire::kind::refused: sink.on_refused(wire::load(payload, 8), static_cast<wire::refusal>(payload[8])); break;
      case wire::kind::revoked: sink.on_revoked(check_seen(wire::load(payload, 8), last_lease_, "handle")); break;
      case wire::kind::goodbye:
        if (said_goodbye_ || assembly_.size != 0) malformed("goodbye out of place");
        said_goodbye_ = true;
        sink.on_goodbye();
        break;
      case wire::kind::ring: sink.on_ring(handles_.ring(), wire::load(payload, 8)); break;
      case wire::kind::pool: sink.on_pool(handles_.next(), wire::load(payload, 8)); break;
      case wire::kind::loan:
        if (said_goodbye_) malformed("loan after goodbye");
        if (header.size - loan_head > max_message_) too_large();
        sink.on_loan(payload, header.size);
        break;
      case wire::kind::returned: sink.on_returned(wire::load(payload, 8)); break;
      case wire::kind::piece:
      case wire::kind::withdrawn: break;
    }
  }

  /// Takes as much of a piece as is here; the rest of it is read straight to where it belongs.
  template <class Sink>
  void begin_piece(chunk& from, const wire::header& header, Sink& sink) {
    if (said_goodbye_) malformed("message after goodbye");
    if (assembly_.size + header.size > max_message_) too_large();
    if (header.size == 0) malformed("empty piece of a message");
    from.parsed += wire::header_size;
    const char* const payload = from.data.get() + from.parsed;
    const std::size_t here = std::min<std::size_t>(header.size, from.filled - from.parsed);
    if (assembly_.size == 0) begin_message(lands(header, payload, here), payload);
    assembly_.is_last_piece = header.kind == wire::kind::message;
    assembly_.missing = header.size;
    put_piece(payload, here);
    from.parsed += here;
    if (piece_ended_) end_piece(sink);
  }

  /// Begins a message that comes in pieces.
  void begin_message(bool lands, const char* payload);

  template <class Sink>
  void end_piece(Sink& sink) {
    piece_ended_ = false;
    if (assembly_.is_last_piece) keep(end_message(), sink);
  }

  /// The message that has come in pieces, now that it is whole.
  stored end_message();

  template <class Sink>
  void take_parcel(chunk& from, const wire::header& header, const char* payload, Sink& sink) {
    if (header.size - 8 > max_message_) too_large();
    if (assembly_.size != 0) malformed("message inside another");
    auto parcel = std::make_unique<arrived_parcel>();
    parcel->id = last_lease_ = check_rising(wire::load(payload, 8), last_lease_, "handle");
    for (unsigned i = 0; i < header.handles; ++i) parcel->handles.push_back(handles_.next());
    if (!sink.on_parcel(*parcel)) return;
    keep(stored{payload + 8, header.size - 8, 0, &from, {}, std::move(parcel)}, sink);
  }

  template <class Sink>
  void keep(stored message, Sink& sink) {
    if (message.size < 2) malformed("message without a type");
    const auto type = static_cast<std::uint16_t>(wire::load(message.data, 2));
    if (type < wire::first_envelope) return keep_message(std::move(message));
    const auto envelope = static_cast<wire::envelope>(type);
    const std::size_t inside = envelope == wire::envelope::cancel ? 0 : envelope == wire::envelope::failure ? 1 : 2;
    if (message.parcel || message.size < wire::envelope_size + inside) {
      malformed("call of " + std::to_string(message.size) + " bytes" + (message.parcel ? " with handles" : ""));
    }
    const std::uint64_t id = wire::load(message.data + 2, 8);
    if (envelope == wire::envelope::cancel) {
      count_cancel(id);
      sink.on_cancel(id);
    } else if (envelope == wire::envelope::request) {
      keep_request(id, std::move(message));
    } else {
      store(message);
      sink.on_answer(envelope, id, std::move(message));
    }
  }

  /// Keeps the messages that lie whole in a chunk, without handles, up to a frame that is something else: what most
  /// are. All of them are one entry.
  void keep_plain(chunk& home);

  void store(const stored& message);

  void keep_message(stored message);

  void keep_request(std::uint64_t id, stored message);

  /// A peer that cancels a call cancels it once.
  void count_cancel(std::uint64_t id);

  /// `id`, which must be above `last`.
  static std::uint64_t check_rising(std::uint64_t id, std::uint64_t last, const char* what);

  /// `id`, which must be one of those up to `last`.
  static std::uint64_t check_seen(std::uint64_t id, std::uint64_t last, const char* what);

  template <class Sink>
  void take_lease(const wire::header& header, const char* payload, Sink& sink) {
    if (header.size - 9 > max_message_) too_large();
    arrived_lease lease;
    lease.fd = handles_.next();
    lease.id = last_lease_ = check_rising(wire::load(payload, 8), last_lease_, "handle");
    lease.kind = static_cast<handle_kind>(payload[8]);
    std::memcpy(lease.message.grow(header.size - 9), payload + 9, header.size - 9);
    sink.on_lease(std::move(lease));
  }

  std::uint32_t max_message_;
  std::vector<std::unique_ptr<chunk>> chunks_;
  std::unique_ptr<chunk> spare_;
  numbered_fifo<stored> messages_;        // by the order in which they came
  numbered_fifo<std::uint64_t> parcels_;  // which of them have handles, by the numbers of these
  numbered_fifo<arrived_lease> leases_;
  const char* last_end_ = nullptr;  // of the last message, if it is of those that are kept as one
  std::uint64_t came_ = 0;          // messages so far
  std::uint64_t last_lease_ = 0;
  std::uint64_t last_request_ = 0;
  std::uint64_t not_cancelled_ = 0;  // calls so far, without those that have been cancelled
  std::size_t stored_bytes_ = 0;
  std::size_t stored_ = 0;  // messages, leases and answers that are these bytes
  std::size_t parcel_handles_ = 0;
  assembly assembly_;
  const landing* landing_ = nullptr;
  std::optional<outside_range> landed_;  // a part of the first message
  bool expects_large_ = false;           // the last message had a part that landed
  bool piece_ended_ = false;
  unclaimed_handles handles_;
  bool greeted_ = false;
  bool said_goodbye_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "inbox.ipp"
#endif
