// SPDX-License-Identifier: BSL-1.0
// A libFuzzer target: any bytes as what a peer sends. A channel must end in an exception of its own or go on; it must
// not crash, hang, leak, or take memory that the bytes do not account for.
//
// The first byte of an input says what the rest is. Bit 0: a correct hello goes in front, without which few inputs get
// any further. Bit 1: what follows are frames, each u8 kind, u8 handles, u8 size, payload, that get a correct header
// and as many descriptors as they say; otherwise they are the bytes of the stream. Bit 2: these descriptors are memory
// to borrow, and no eventfds. Bit 3: a correct pool goes behind the hello. Bit 4: the channel copies loans.
#include "fuzzed_channel.hpp"

namespace cohort::fuzz {

/// The other end of the channel.
class peer {
 public:
  peer(asio::io_context& context, descriptor socket, bool passes_memory)
      : context_(context), socket_(std::move(socket)), object_(passes_memory ? lent_memory() : counter()) {}

  void lend() {
    write(framed(wire::kind::handles, {}, 1) + framed(wire::kind::pool, word(pool_size), 1), 1, lent_memory());
  }

  void write_frames(input from) {
    while (!from.empty()) {
      const auto kind = static_cast<wire::kind>(from.number(1));
      const auto handles = static_cast<std::uint8_t>(from.number(1));
      const auto payload = from.take(from.number(1));
      write(framed(kind, payload, handles), kind == wire::kind::handles ? handles : 0, object_);
    }
  }

  void write(std::string_view bytes) { write(bytes, 0, object_); }

 private:
  /// Writes all of it unless the channel does not read any more; the first part goes with `handles` descriptors.
  void write(std::string_view bytes, std::size_t handles, const descriptor& object) {
    while (!bytes.empty()) {
      const auto sent = write_some(socket_.get(), bytes, handles, object.get());
      if (sent <= 0 && context_.poll() == 0) return;
      if (sent <= 0) continue;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      handles = 0;
    }
  }

  asio::io_context& context_;
  descriptor socket_;
  const descriptor& object_;
};

void run(input from) {
  const auto what = from.number(1);
  const auto says = [what](int bit) { return (what >> bit & 1) != 0; };
  asio::io_context context;
  auto ends = make_channel_pair();
  channel_options options = fuzzed_options();
  options.copy_loans = says(4);
  fuzzed mine(context.get_executor(), std::move(ends.first), options);
  application::start(context, mine);
  {
    peer other(context, std::move(ends.second), says(2));
    if (says(0)) other.write(hello_frame());
    if (says(3)) other.lend();
    context.poll();  // the channel lends, so that something can be given back
    if (says(1)) {
      other.write_frames(from);
    } else {
      other.write(from.rest());
    }
    context.poll();
  }
  context.run();
}

}  // namespace cohort::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cohort::fuzz::run(cohort::fuzz::input(data, size));
  return 0;
}
