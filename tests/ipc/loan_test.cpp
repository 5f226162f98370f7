// SPDX-License-Identifier: BSL-1.0
// Memory that one side lends and the other reads; and a peer that lends or gives back what no correct one does.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/core/scope.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/ipc/transport/sealed_memory.hpp"
#include "../process/children.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::loan_test {
namespace {

using wire::kind;
using word = std::uint64_t;

channel_options with_pool(std::size_t size) {
  channel_options options;
  options.loan_pool = size;
  return options;
}

/// Mappings of pools in this process.
std::size_t mapped_pools() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("cohort loans") != std::string::npos;
  return count;
}

template <class Channel>
asio::awaitable<void> lend(Channel& from, std::size_t count, word first) {
  auto numbers = co_await from.template loan<word>(count);
  std::iota(numbers.begin(), numbers.end(), first);
  const number what{first};
  co_await from.send(what, std::move(numbers));
}

template <class T>
bool counts_from(const loan_view<T>& view, word first) {
  for (const T& each : view) {
    if (each != first++) return false;
  }
  return true;
}

ASYNC_TEST("a loan arrives with its message, and is read where its sender wrote it") {
  talking both(co_await asio::this_coro::executor);
  auto sent = co_await both.here.loan<word>(1000);
  word* const where = sent.data();
  std::iota(sent.begin(), sent.end(), word{7});
  const text name{"seven"};
  co_await both.here.send(name, std::move(sent));
  CHECK_FALSE(sent);
  CHECK(sent.size() == 0);
  const auto got = co_await both.there.receive_loan<word>();
  CHECK(as_string(got->message) == "seven");
  CHECK(got->view.size() == 1000);
  CHECK(counts_from(got->view, 7));
  where[0] = 8;  // what only a hostile sender does
  CHECK(got->view[0] == 8);
}

ASYNC_TEST("a receiver that copies loans reads what they were, and has given them back") {
  channel_options copies;
  copies.copy_loans = true;
  talking both(co_await asio::this_coro::executor, with_pool(4096), copies);
  auto sent = co_await both.here.loan<word>(512);  // all there is
  word* const where = sent.data();
  std::iota(sent.begin(), sent.end(), word{1});
  const nothing what;
  co_await both.here.send(what, std::move(sent));
  const auto got = co_await both.there.receive_loan<word>();
  where[0] = 8;
  CHECK(counts_from(got->view, 1));
  const auto again = co_await both.here.loan<word>(512);
  CHECK(again.size() == 512);
}

ASYNC_TEST("a child borrows, and lends what it has added up") {
  auto child = co_await spawn<talk>(helper("ipc-obey"), over_transport());
  for (word i = 1; i <= 3; ++i) {
    co_await child.send<order>("add up", 1u);
    co_await lend(child, 100'000, i);
    const auto sums = co_await child.receive_loan<word>();
    CHECK(sums->view.size() == 2);
    CHECK(sums->view[0] == 100'000 * i + word{99'999} * 100'000 / 2);
    CHECK(sums->view[1] == i);
  }
  co_await child.disconnect();
  const auto end = co_await child.receive();
  CHECK_FALSE(end);
}

ASYNC_TEST("memory is waited for, in order, and the largest loan comes too") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_pool(64 * 1024));
  co_await lend(both.here, 4096, 1);
  co_await lend(both.here, 4096, 2);
  outcome_of<loan<char>> all_of_it(executor, both.here.loan<char>(64 * 1024));
  outcome_of<loan<char>> little(executor, both.here.loan<char>(1));
  co_await yield(20);
  CHECK_FALSE(all_of_it.is_there());
  {
    const auto first = co_await both.there.receive_loan<word>();
    CHECK(counts_from(first->view, 1));
  }
  co_await yield(20);
  CHECK_FALSE(all_of_it.is_there());
  CHECK_FALSE(little.is_there());  // it has room, and its turn comes
  {
    const auto second = co_await both.there.receive_loan<word>();
    CHECK(counts_from(second->view, 2));
  }
  {
    const auto whole = co_await all_of_it.get();
    CHECK(whole.size() == 64 * 1024);
    co_await yield(20);
    CHECK_FALSE(little.is_there());
  }  // not sent: who waits hears of that, too
  const auto one = co_await little.get();
  CHECK(one.size() == 1);
}

ASYNC_TEST("no more loans are out than max_loans") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.max_loans = 2;
  talking both(executor, options);
  co_await lend(both.here, 1, 1);
  const auto second = co_await both.here.loan<word>(1);
  outcome_of<loan<word>> third(executor, both.here.loan<word>(1));
  co_await yield(20);
  CHECK_FALSE(third.is_there());
  auto got = co_await both.there.receive_loan<word>();
  got->view.give_back();
  CHECK(got->view.size() == 0);
  const auto come = co_await third.get();
  CHECK(come.size() == 1);
}

ASYNC_TEST("more than the pool is refused at once, with both sizes") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_pool(10'000));
  const auto why = co_await text_of(both.here.loan<word>(2000));
  CHECK(why.find("loan: 16000 bytes, of a pool of 12288") == 0);
  auto code = co_await error_of(both.here.loan<word>(~std::size_t{0} / 4));
  CHECK(code == errc::message_too_large);
  talking none(executor, with_pool(0));
  code = co_await error_of(none.here.loan<char>(1));
  CHECK(code == errc::message_too_large);
  talking too_much(executor, with_pool(~std::size_t{0}));
  code = co_await error_of(too_much.here.loan<char>(1));
  CHECK(code == errc::invalid_option);
}

ASYNC_TEST("used memory is lent again before any that nobody has touched") {
  talking both(co_await asio::this_coro::executor);
  std::set<const void*> places;
  for (word i = 0; i < 20; ++i) {
    auto sent = co_await both.here.loan<word>(100'000);
    places.insert(sent.data());
    const nothing what;
    co_await both.here.send(what, std::move(sent));
    {
      const auto got = co_await both.there.receive_loan<word>();
    }
    co_await both.there.flush();
    co_await yield(5);
  }
  CHECK(places.size() <= 2);  // the first may not have come back when the second is wanted
}

ASYNC_TEST("loans of any size go both ways, and keep what was written until they are given back") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_pool(256 * 1024), with_pool(256 * 1024));
  auto give = [](auto& from, unsigned seed) -> asio::awaitable<void> {
    std::mt19937 random(seed);
    for (word i = 0; i < 300; ++i) co_await lend(from, random() % 4096, i * 1'000'000);
    co_await from.disconnect();
  };
  auto take = [](auto& from, unsigned seed) -> asio::awaitable<word> {
    std::mt19937 random(seed);
    std::vector<received_loan<any_message, word>> held;
    word next = 0;
    while (auto got = co_await from.template receive_loan<word>()) {
      CHECK(as_string(got->message) == std::to_string(1'000'000 * next++));
      held.push_back(std::move(*got));
      if (held.size() < 7) continue;
      const std::size_t which = random() % held.size();
      CHECK(counts_from(held[which].view, std::get<number>(held[which].message).value));
      std::swap(held[which], held.back());
      held.pop_back();
    }
    for (const auto& each : held) CHECK(counts_from(each.view, std::get<number>(each.message).value));
    co_return next;
  };
  outcome_of<void> here_gives(executor, give(both.here, 1)), there_gives(executor, give(both.there, 2));
  outcome_of<word> here_takes(executor, take(both.here, 3)), there_takes(executor, take(both.there, 4));
  const word here = co_await here_takes.get();
  const word there = co_await there_takes.get();
  co_await here_gives.get();
  co_await there_gives.get();
  CHECK(here == 300);
  CHECK(there == 300);
}

ASYNC_TEST("a loan of nothing arrives as nothing") {
  talking both(co_await asio::this_coro::executor);
  co_await lend(both.here, 0, 5);
  const auto got = co_await both.there.receive_loan<word>();
  CHECK(as_string(got->message) == "5");
  CHECK(got->view.size() == 0);
}

ASYNC_TEST("elements of another type are refused and given back, and the next loan is received") {
  talking both(co_await asio::this_coro::executor, with_pool(4096));
  co_await lend(both.here, 512, 1);
  auto code = co_await error_of(both.there.receive_loan<double>());
  CHECK(code == errc::schema_mismatch);
  co_await lend(both.here, 512, 2);  // all of the pool again
  code = co_await error_of(both.there.receive_loan<std::uint32_t>());
  CHECK(code == errc::schema_mismatch);
  co_await lend(both.here, 512, 3);
  const auto got = co_await both.there.receive_loan<word>();
  CHECK(counts_from(got->view, 3));
}

ASYNC_TEST("a loan with a message that the peer does not know stays the sender's") {
  const auto executor = co_await asio::this_coro::executor;
  connected<any_message, any_message> talks(executor);
  auto sent = co_await talks.here.loan<word>(3);
  sent[2] = 5;
  std::string large(wire::max_frame, 'x');
  const text much{large};
  auto code = co_await error_of(talks.here.send(much, std::move(sent)));
  CHECK(code == errc::message_too_large);
  CHECK(sent);
  CHECK(sent[2] == 5);
  talking others(executor);
  const nothing what;
  code = co_await error_of(others.here.send(what, std::move(sent)));
  CHECK(code == std::error_code(EINVAL, std::system_category()));
  loan<word> none;
  code = co_await error_of(others.here.send(what, std::move(none)));
  CHECK(code == std::error_code(EINVAL, std::system_category()));
  co_await talks.here.send(what, std::move(sent));
  const auto got = co_await talks.there.receive_loan<word>();
  CHECK(got->view[2] == 5);
}

ASYNC_TEST("a channel that lends nothing has no pool, and one that has ended keeps none but for what is held") {
  const auto executor = co_await asio::this_coro::executor;
  const std::size_t before = mapped_pools();
  std::optional<received_loan<any_message, word>> got;
  loan<word> unsent;
  {
    talking both(executor);
    co_await both.here.send<number>(1u);
    const auto heard = co_await next(both.there);
    CHECK(heard == "1");
    CHECK(mapped_pools() == before);
    co_await lend(both.here, 1000, 1);
    got = co_await both.there.receive_loan<word>();
    co_await lend(both.here, 1000, 2);  // is never taken
    unsent = co_await both.here.loan<word>(10);
    CHECK(mapped_pools() == before + 2);
    both.here.close();
    const auto code = co_await error_of(both.here.loan<word>(1));
    CHECK(code == errc::closed);
  }
  CHECK(counts_from(got->view, 1));
  std::iota(unsent.begin(), unsent.end(), word{1});
  CHECK(mapped_pools() == before + 2);
  got.reset();
  unsent = {};
  CHECK(mapped_pools() == before);
}

ASYNC_TEST("who waits for memory hears that the peer has died, and a loan is the caller's then") {
  const auto executor = co_await asio::this_coro::executor;
  const std::size_t before = mapped_pools();
  {
    auto options = over_transport(with_pool(8192));
    auto child = co_await spawn<talk>(helper("ipc-obey"), options);
    co_await child.send<order>("hold a loan", 1u);
    co_await lend(child, 512, 1);
    auto mine = co_await child.loan<word>(500);
    mine[0] = 9;
    outcome_of<loan<word>> more(executor, child.loan<word>(512));
    const auto held = co_await next(child);
    CHECK(held == "nothing");
    co_await yield(5);
    CHECK_FALSE(more.is_there());
    child.signal(SIGKILL);
    auto code = co_await error_of(more.get());
    CHECK(code == errc::peer_closed);
    const nothing what;
    code = co_await error_of(child.send(what, std::move(mine)));
    CHECK(code == errc::peer_closed);
    CHECK(mine[0] == 9);
    co_await child.wait();
  }
  CHECK(mapped_pools() == before);
}

ASYNC_TEST("what a peer lent before it died is received, and can be read for as long as it is held") {
  std::optional<received_loan<talk::to_parent, word>> got;
  {
    auto child = co_await spawn<talk>(helper("ipc-obey"), over_transport());
    co_await child.send<order>("lend and die", 3u);
    co_await child.wait();
    for (word i = 0; i < 3; ++i) {
      got = co_await child.receive_loan<word>();
      CHECK(counts_from(got->view, i));
    }
    const auto end = co_await child.receive_loan<word>();
    CHECK_FALSE(end);
  }
  CHECK(got->view.size() == 1000);
  CHECK(counts_from(got->view, 2));
}

ASYNC_TEST("who waits for memory when this side disconnects or closes hears of it") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_pool(4096));
  const auto mine = co_await both.here.loan<char>(4096);
  outcome_of<loan<char>> more(executor, both.here.loan<char>(1));
  co_await yield(5);
  co_await both.here.disconnect();
  auto code = co_await error_of(more.get());
  CHECK(code == errc::closed);
  talking others(executor, with_pool(4096));
  const auto all = co_await others.here.loan<char>(4096);
  outcome_of<loan<char>> another(executor, others.here.loan<char>(1));
  co_await yield(5);
  others.here.close();
  code = co_await error_of(another.get());
  CHECK(code == errc::closed);
}

// -- cancellation ---------------------------------------------------------------------------------------------------

PLAIN_TEST("a cancelled wait for memory takes nothing") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor, with_pool(4096));
    co_await lend(both.here, 512, 1);
    auto give_back = [&]() -> asio::awaitable<void> {
      co_await yield(3);
      const auto got = co_await both.there.receive_loan<word>();
      co_await yield(3);
    };
    outcome_of<void> giving(executor, give_back());
    {
      const auto mine = co_await cancelled(both.here.loan<word>(512));
      if (mine) CHECK(mine->size() == 512);
    }
    const auto again = co_await both.here.loan<word>(512);
    CHECK(again.size() == 512);
    co_await giving.get();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled send of a loan has sent it, or it is the caller's as it was") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor, with_pool(4096));
    auto mine = co_await both.here.loan<word>(512);
    std::iota(mine.begin(), mine.end(), word{3});
    const text filling = text_of_size(90'000);
    for (int i = 0; i < 8; ++i) both.here.post(filling);
    auto read = [&]() -> asio::awaitable<void> {
      for (int i = 0; i < 8; ++i) {
        co_await yield();
        const auto heard = co_await next(both.there);
      }
    };
    outcome_of<void> reading(executor, read());
    const number what{3};
    const bool sent = co_await cancelled(both.here.send(what, std::move(mine)));
    CHECK(sent == !mine);
    if (!sent) CHECK(mine[511] == 514);
    if (!sent) co_await both.here.send(what, std::move(mine));
    {
      const auto got = co_await both.there.receive_loan<word>();
      CHECK(got->view.size() == 512);
      CHECK(counts_from(got->view, 3));
    }
    const auto again = co_await both.here.loan<word>(512);
    CHECK(again.size() == 512);
    co_await reading.get();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled receive_loan leaves the loan for the next one") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    auto later = [&]() -> asio::awaitable<void> {
      co_await yield(3);
      co_await lend(both.here, 10, 4);
    };
    outcome_of<void> lending(executor, later());
    auto got = co_await cancelled(both.there.receive_loan<word>());
    if (!got) got = co_await both.there.receive_loan<word>();
    CHECK(counts_from((*got)->view, 4));
    co_await lending.get();
  });
  CHECK(cancelled_runs > 2);
}

// -- a hostile peer -------------------------------------------------------------------------------------------------

constexpr std::size_t pool_size = 8192;

descriptor sealed_memory_of(std::size_t size) {
  descriptor memory = detail::make_memory("a test's", size, "a test");
  detail::seal_memory(memory.get(), false, "a test");
  return memory;
}

std::string pool_frames(std::uint64_t size) {
  return frame(kind::handles, {}, 1) + frame(kind::pool, little(size, 8), 1);
}

std::string loan_frame(std::uint64_t id, std::uint64_t offset, std::uint64_t count, std::uint32_t each = 8) {
  return frame(kind::loan, little(id, 8) + little(offset, 8) + little(count, 8) +
                               little(detail::loan_type_of<word>.hash, 8) + little(each, 4) + number_payload(id));
}

/// A channel that a peer with a pool of pool_size bytes says these frames to.
asio::awaitable<std::error_code> said(std::string frames, int expected = 0) {
  against_raw<> both(co_await asio::this_coro::executor);
  const descriptor memory = sealed_memory_of(pool_size);
  const std::vector<int> handles{memory.get()};
  both.there.write(talking_hello());
  both.there.write(pool_frames(pool_size), handles);
  both.there.write(frames);
  both.there.shut_down_writing();
  std::vector<received_loan<any_message, word>> held;
  std::error_code code;
  try {
    while (auto got = co_await both.here.receive_loan<word>()) held.push_back(std::move(*got));
  } catch (...) {
    code = detail::caught().code();
  }
  CHECK(static_cast<int>(held.size()) == expected);
  for (const auto& each : held) CHECK(each.view.size() * sizeof(word) <= pool_size);
  if (code) CHECK_FALSE(both.here.is_open());
  co_return code;
}

ASYNC_TEST("a loan that is no part of the pool, or lent already, ends the channel") {
  const std::string good = loan_frame(1, 0, 8);
  auto code = co_await said(good + loan_frame(2, 64, 1016), 2);
  CHECK_FALSE(code);
  for (const std::string& bad : {
           loan_frame(2, 64, 1017),                          // a word too many
           loan_frame(2, pool_size, 0),                      // behind the end
           loan_frame(2, pool_size - 64, 9),                 // over the end
           loan_frame(2, ~std::uint64_t{63}, 1),             // far behind the end
           loan_frame(2, 64, ~std::uint64_t{0}),             // bytes that wrap around
           loan_frame(2, 64, (~std::uint64_t{0} >> 3) + 2),  // to few
           loan_frame(2, 72, 1),                             // not aligned
           loan_frame(2, 1, 1),                              //
           loan_frame(2, 64, 1, 0),                          // elements of no size
           loan_frame(2, 64, 2, ~std::uint32_t{0}),          //
           loan_frame(2, 0, 1),                              // lent already: the same,
           loan_frame(2, 0, 0),                              //
           loan_frame(2, 0, 1024),                           // and one that ends behind it
           loan_frame(1, 64, 1),                             // a number that has been used
           loan_frame(0, 64, 1),                             //
           pool_frames(pool_size),                           // without a descriptor
           frame(kind::pool, little(pool_size, 8), 1),       //
           frame(kind::returned, little(1, 8)),              // this side has lent nothing
       }) {
    code = co_await said(good + bad, 1);
    CHECK(code == errc::malformed);
  }
  code = co_await said(loan_frame(1, 128, 8) + loan_frame(2, 64, 9), 1);  // one that reaches into the next
  CHECK(code == errc::malformed);
}

ASYNC_TEST("a loan without a pool ends the channel, and so does a second pool") {
  const auto executor = co_await asio::this_coro::executor;
  {
    against_raw<> both(executor);
    both.there.write(talking_hello() + loan_frame(1, 0, 1));
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
  }
  against_raw<> both(executor);
  const descriptor memory = sealed_memory_of(pool_size);
  const std::vector<int> handles{memory.get()};
  both.there.write(talking_hello());
  both.there.write(pool_frames(pool_size), handles);
  both.there.write(pool_frames(pool_size), handles);
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::malformed);
}

ASYNC_TEST("memory that could be taken away, or is not as large as said, is no pool") {
  const auto executor = co_await asio::this_coro::executor;
  std::vector<std::pair<descriptor, std::uint64_t>> bad;
  bad.emplace_back(detail::make_memory("a test's", pool_size, "a test"), pool_size);  // not sealed
  bad.emplace_back(sealed_memory_of(pool_size), 2 * pool_size);
  bad.emplace_back(sealed_memory_of(pool_size), pool_size / 2);
  bad.emplace_back(sealed_memory_of(pool_size), 0);
  bad.emplace_back(sealed_memory_of(0), 0);
  bad.emplace_back(sealed_memory_of(100), 100);
  bad.emplace_back(sealed_memory_of(pool_size), ~std::uint64_t{0});
  bad.emplace_back(descriptor(::open("/dev/zero", O_RDWR | O_CLOEXEC)), pool_size);
  bad.emplace_back(descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), pool_size);
  for (const auto& [memory, size] : bad) {
    against_raw<> both(executor);
    const std::vector<int> handles{memory.get()};
    both.there.write(talking_hello());
    both.there.write(pool_frames(size), handles);
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
  }
  channel_options few;
  few.max_peer_pool = pool_size - 1;
  against_raw<> both(executor, few);
  const descriptor memory = sealed_memory_of(pool_size);
  const std::vector<int> handles{memory.get()};
  both.there.write(talking_hello());
  both.there.write(pool_frames(pool_size), handles);
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::malformed);
}

ASYNC_TEST("a peer cannot map what it borrows to write there") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  co_await lend(both.here, 10, 1);
  const descriptor memory = both.there.next_descriptor();
  CHECK(::ftruncate(memory.get(), 0) != 0);
  const void* const at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  CHECK(at == MAP_FAILED);
}

ASYNC_TEST("what is given back twice, or was never lent, ends the channel") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::vector<word>& ids : {std::vector<word>{1, 1}, {2}, {0}, {~word{0}}}) {
    against_raw<> both(executor);
    both.there.write(talking_hello());
    co_await lend(both.here, 10, 1);
    for (const word id : ids) both.there.write(frame(kind::returned, little(id, 8)));
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
    const auto later = co_await error_of(both.here.loan<word>(1));
    CHECK(later == errc::malformed);
  }
}

ASYNC_TEST("what is given back before it was sent ends the channel, and the memory is not lent twice") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor, with_pool(4096));
  both.there.write(talking_hello());
  auto mine = co_await both.here.loan<word>(512);
  const text filling = text_of_size(90'000);
  for (int i = 0; i < 8; ++i) both.here.post(filling);
  const number what{1};
  outcome_of<void> sending(executor, both.here.send(what, std::move(mine)));
  co_await yield(5);
  REQUIRE_FALSE(sending.is_there());
  both.there.write(frame(kind::returned, little(1, 8)));
  auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::malformed);
  code = co_await error_of(sending.get());
  CHECK(code == errc::malformed);
  CHECK(mine.size() == 512);  // the caller's again
}

ASYNC_TEST("loans that nobody takes stop the reading") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor memory = sealed_memory_of(std::size_t{16} << 20);
  const std::vector<int> handles{memory.get()};
  both.there.write(talking_hello());
  both.there.write(pool_frames(std::size_t{16} << 20), handles);
  outcome_of<std::string> reading(executor, next(both.here));
  std::uint64_t sent = 0;
  for (int refused = 0; refused < 50;) {
    const bool went = sent < (16 << 20) / 64 && both.there.try_write(loan_frame(sent + 1, sent * 64, 1), {});
    if (went) {
      ++sent;
    } else {
      ++refused;
      co_await yield();
    }
  }
  CHECK(sent < 200'000);
  CHECK_FALSE(reading.is_there());
  for (std::uint64_t i = 1; i <= sent; ++i) {
    const auto got = co_await both.here.receive_loan<word>();
    if (as_string(got->message) != std::to_string(i)) FAIL("loan ", i, " is missing");
  }
  both.there.close();
  const auto end = co_await reading.get();
  CHECK(end == "(end)");
}

ASYNC_TEST("without memory for a pool there is no loan, and the channel goes on") {
  talking both(co_await asio::this_coro::executor);
  {
    const fault<&system::calls::memfd_create> none(EMFILE);
    const auto code = co_await error_of(both.here.loan<word>(10));
    CHECK(code == std::error_code(EMFILE, std::system_category()));
  }
  co_await lend(both.here, 10, 3);
  const auto got = co_await both.there.receive_loan<word>();
  CHECK(counts_from(got->view, 3));
}

}  // namespace
}  // namespace cohort::test::loan_test
