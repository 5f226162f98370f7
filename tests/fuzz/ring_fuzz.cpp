// SPDX-License-Identifier: BSL-1.0
// A libFuzzer target: a peer that writes whatever it likes into the rings of shared memory, between the steps of a
// channel. The channel must end in an exception of its own or go on; it must not crash, hang or leak, nor read outside
// of the memory.
//
// An input is a list of steps, each one byte and what belongs to it; see peer::step().
#include <cstdlib>

#include "../../include/cohort/ipc/transport/ring.hpp"
#include "fuzzed_channel.hpp"

namespace cohort::fuzz {

using detail::ring_control;
using detail::ring_memory;

constexpr std::size_t capacity = 4096;

/// The other end of the channel, with a ring of its own and a mapping of the channel's.
class peer {
 public:
  peer(asio::io_context& context, fuzzed& against, descriptor socket)
      : context_(context),
        against_(against),
        socket_(std::move(socket)),
        memory_(ring_memory::make(capacity)),
        mine_(memory_.get(), capacity) {
    mine_.control().handles_at.store(~std::uint64_t{0});
    write_some(socket_.get(), hello_frame());
    write_some(socket_.get(), framed(wire::kind::ring, word(capacity), 1), 1, memory_.get());
    context_.poll();
    map_theirs();
  }

  bool has_both() const noexcept { return theirs_.capacity() != 0; }

  /// The lower four bits of a step say what it is. Bit 6: in the peer's ring, where it could be either. Bit 7: the
  /// channel runs behind it.
  void step(input& from) {
    const auto what = from.number(1);
    ring_control& either = (what & 64) != 0 ? mine_.control() : theirs_.control();
    switch (what % 16) {
      case 0: say(from.take(from.number(1))); break;
      case 1: {  // a frame
        const auto kind = static_cast<wire::kind>(from.number(1));
        const auto handles = static_cast<std::uint8_t>(from.number(1));
        say(framed(kind, from.take(from.number(1)), handles));
        break;
      }
      case 2: {  // a header with any size
        std::string frame = framed(static_cast<wire::kind>(from.number(1)), {});
        wire::store(frame.data(), from.number(4), 4);
        say(frame);
        break;
      }
      case 3: scribble(mine_, from); break;    // what may have been published before
      case 4: scribble(theirs_, from); break;  // what the channel has written
      case 5: mine_.control().tail.store(from.number(8)); break;
      case 6: mine_.control().tail.store(said_ += from.number(2)); break;
      case 7: theirs_.control().head.store(from.number(8)); break;
      case 8: theirs_.control().head.store(theirs_.control().tail.load()); break;  // all has been read
      case 9: mine_.control().handles_at.store(said_ + from.number(1)); break;
      case 10:
        either.sleeps.store(static_cast<std::uint32_t>(from.number(1)));
        either.wanted.store(from.number(2));
        break;
      case 11: either.handles_at.store(from.number(8)); break;
      case 12: write_some(socket_.get(), std::string_view("\0", 1)); break;  // the bell
      case 13: hand_over(from.number(1)); break;
      case 14:
        for (auto messages = from.number(1) % 16; messages != 0; --messages) post();
        break;
      default: context_.poll();
    }
    if ((what & 128) != 0) context_.poll();
  }

 private:
  void say(std::string_view bytes) {
    for (const char each : bytes) mine_.data()[said_++ % capacity] = each;
    mine_.control().tail.store(said_);
  }

  static void scribble(const ring_memory& where, input& from) {
    std::size_t at = from.number(2);
    for (const char each : from.take(from.number(1))) where.data()[at++ % capacity] = each;
  }

  /// Passes up to four descriptors, of memory to borrow with bit 7, and announces them unless bit 6 is set.
  void hand_over(std::uint64_t how) {
    const bool lends = (how & 128) != 0;
    const auto count = static_cast<std::uint8_t>(how % 5);
    mine_.control().handles_at.store(said_);
    write_some(socket_.get(), std::string_view("\1", 1), count, (lends ? lent_memory() : counter()).get());
    if (count == 0 || (how & 64) != 0) return;
    say(framed(wire::kind::handles, {}, count) + (lends ? framed(wire::kind::pool, word(pool_size), 1) : ""));
  }

  void post() {
    try {
      against_.post_if_open(small{1, 2});
    } catch (const std::system_error&) {
      // the peer's positions
    }
  }

  /// Takes the channel's ring, which comes behind its hello.
  void map_theirs() {
    for (;;) {
      alignas(cmsghdr) std::array<char, 256> control{};
      std::array<char, 4096> bytes;
      iovec part{bytes.data(), bytes.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      if (::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return;
      if (message.msg_controllen == 0) continue;
      int came = -1;
      std::memcpy(&came, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof came);
      const descriptor memory(came);
      theirs_ = ring_memory(memory.get(), capacity);
      return;
    }
  }

  asio::io_context& context_;
  fuzzed& against_;
  descriptor socket_;
  descriptor memory_;
  ring_memory mine_;
  ring_memory theirs_;
  std::uint64_t said_ = 0;
};

void run(input from) {
  asio::io_context context;
  auto ends = make_channel_pair();
  channel_options options = fuzzed_options();
  options.transport = transport::shared_memory;
  options.ring_size = capacity;
  fuzzed mine(context.get_executor(), std::move(ends.first), options);
  application::start(context, mine);
  {
    peer other(context, mine, std::move(ends.second));
    if (!other.has_both()) std::abort();  // every input begins with a correct channel
    while (!from.empty()) other.step(from);
    context.poll();
  }
  context.run();
}

}  // namespace cohort::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cohort::fuzz::run(cohort::fuzz::input(data, size));
  return 0;
}
