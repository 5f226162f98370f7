// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/ipc/codec/byte_buffer.hpp"
#include "../../include/cohort/ipc/codec/codec.hpp"
#include "../../include/cohort/messaging/endpoint.hpp"
#include "townhall.hpp"

namespace cohort::test::messenger_test {
namespace {

using undelivered::failed, undelivered::gone, undelivered::slow, undelivered::unheard;

town::news number(std::uint32_t n) {
  town::news what;
  what.number = n;
  return what;
}

/// Starts something that ends later.
template <class T>
std::shared_ptr<std::optional<T>> begin(const asio::any_io_executor& executor, asio::awaitable<T> work) {
  auto result = std::make_shared<std::optional<T>>();
  asio::co_spawn(executor, std::move(work), [result](std::exception_ptr thrown, T value) {
    if (!thrown) *result = std::move(value);
  });
  return result;
}

/// A send that the test cancels.
struct cancellable {
  cancellable(const asio::any_io_executor& executor, asio::awaitable<receipt> work) {
    asio::co_spawn(executor, std::move(work),
                   asio::bind_cancellation_slot(signal.slot(), [end = ended](std::exception_ptr thrown, receipt) {
                     end->emplace();
                     try {
                       if (thrown) std::rethrow_exception(thrown);
                     } catch (const std::system_error& error) {
                       **end = error.code();
                     }
                   }));
  }

  asio::awaitable<std::error_code> cancel() {
    signal.emit(asio::cancellation_type::terminal);
    const bool over = co_await eventually([this] { return ended->has_value(); });
    REQUIRE(over);
    co_return **ended;
  }

  asio::cancellation_signal signal;
  std::shared_ptr<std::optional<std::error_code>> ended = std::make_shared<std::optional<std::error_code>>();
};

struct process {
  explicit process(const asio::any_io_executor& executor) : office(executor, member(), nullptr) {}
  message_endpoint& messages() { return office; }
  message_endpoint office;
};

}  // namespace

ASYNC_TEST("a messenger takes its listeners with it, and may go when its process has gone") {
  const auto executor = co_await asio::this_coro::executor;
  std::optional<process> self(executor);
  std::optional<town::talk> first(std::in_place, *self), second(std::in_place, *self, unheard_policy::ignore);
  first->on<town::news>([](const town::news&) { throw std::runtime_error("heard"); });
  routed_message what;
  what.type = fingerprint<town::news>();
  byte_buffer bytes;
  encode(bytes, number(1));
  what.body = bytes.view();
  const auto heard = co_await self->office.receive(what);
  CHECK(to_string(heard) == "delivered to 0 of 1; primary: failed: heard");
  first.reset();
  const auto ignored = co_await self->office.receive(what);
  CHECK(to_string(ignored) == "delivered to 1 of 1");
  self.reset();
  second.reset();
}

ASYNC_TEST("a broadcast of the primary reaches every worker and agent, once") {
  auto options = townhall::options(3);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  const auto what = number(1);
  const auto became = co_await t->talk.broadcast(what);
  CHECK(became.delivered == 4);
  CHECK(became.complete());
  for (unsigned slot = 1; slot <= 3; ++slot) {
    const auto text = co_await t->heard(recipient::slot(slot));
    CHECK(text.find("1 ") != std::string::npos);
  }
  const auto text = co_await t->heard(recipient::agent("cache"));
  CHECK(text.find("1 ") != std::string::npos);
  const int status = co_await t->c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a broadcast of a worker reaches the worker itself, too, and says who has sent it") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  const auto done = co_await t->obey(recipient::slot(2), "everyone", 7);
  CHECK(done.text == "delivered to 3 of 3");
  for (unsigned slot = 1; slot <= 2; ++slot) {
    const auto text = co_await t->heard(recipient::slot(slot));
    CHECK(text.find("7 from 2 ") != std::string::npos);
  }
  const auto to_workers = co_await t->obey(recipient::agent("cache"), "workers", 8);
  CHECK(to_workers.text == "delivered to 2 of 2");
  const auto text = co_await t->heard(recipient::agent("cache"));
  CHECK(text.find("8 ") == std::string::npos);
  co_await t->c->stop();
}

ASYNC_TEST("a message to a slot, a pid, an agent or the primary comes to that process alone") {
  auto options = townhall::options(3);
  options.agents.push_back(townhall::agent("cache"));
  options.agents.push_back(townhall::agent("log"));
  auto t = co_await townhall::open(options);
  std::vector<std::uint32_t> here;
  t->talk.on<town::news>([&](const town::news& what, const member& from) {
    here.push_back(what.number);
    CHECK(from.slot == 1);
    CHECK(from.pid == t->c->pid(1));
  });
  const auto from = recipient::slot(1);
  for (const std::string& to : {std::string("slot 2"), "pid " + std::to_string(t->c->pid(3)), std::string("agent log"),
                                std::string("primary"), "pid " + std::to_string(::getpid())}) {
    const auto done = co_await t->obey(from, to, 5);
    CHECK_MESSAGE(done.text == "delivered to 1 of 1", to);
  }
  const std::vector<std::uint32_t> twice{5, 5};
  CHECK(here == twice);
  const auto one = co_await t->heard(from);
  CHECK(one.find('5') == std::string::npos);
  for (const auto& who : {recipient::slot(2), recipient::slot(3), recipient::agent("log")}) {
    const auto text = co_await t->heard(who);
    CHECK(text.find("5 from 1 ") != std::string::npos);
  }
  const auto cache = co_await t->heard(recipient::agent("cache"));
  CHECK(cache.find('5') == std::string::npos);
  co_await t->c->stop();
}

ASYNC_TEST("nobody is nobody's namesake: a message to a process that is not there says so") {
  auto t = co_await townhall::open(townhall::options(1));
  const auto what = number(1);
  for (const auto& who : {recipient::slot(9), recipient::process(1), recipient::agent("none")}) {
    const auto became = co_await t->talk.send_to(who, what);
    REQUIRE(became.failures.size() == 1);
    CHECK(became.delivered == 0);
    CHECK(became.failures[0].why == gone);
  }
  const auto became = co_await t->talk.send_to_agent("none", what);
  CHECK(to_string(became) == "delivered to 0 of 1; agent \"none\": gone");
  co_await t->c->stop();
  const auto late = co_await t->talk.send_random(what);
  CHECK(late.recipients() == 1);
  CHECK(late.failures[0].why == gone);
}

ASYNC_TEST("a random message goes to one worker that serves, never to one that drains") {
  auto t = co_await townhall::open(townhall::options(3));
  auto busy = co_await client::connect(t->c->at());
  const auto answer = co_await busy.ask("pid");
  const pid_t drains = std::stoi(answer);
  ::kill(drains, SIGTERM);
  co_await t->c->until(event_kind::draining);
  co_await t->c->until(event_kind::ready, 4);
  std::set<pid_t> took;
  const auto what = number(3);
  for (int i = 0; i < 60; ++i) {
    const auto became = co_await t->talk.send_random(what);
    CHECK(became.complete());
  }
  for (const auto& each : t->c->primary.stats().workers) {
    const auto text = co_await t->heard(recipient::process(each.pid));
    if (text.find("3 ") != std::string::npos) took.insert(each.pid);
  }
  CHECK(took.size() == 3);
  CHECK(took.count(drains) == 0);
  co_await t->c->stop();
}

ASYNC_TEST("a draining worker still hears what is for all, since it still answers") {
  auto t = co_await townhall::open(townhall::options(1));
  auto busy = co_await client::connect(t->c->at());
  const auto answer = co_await busy.ask("pid");
  busy.say("slow 60000");
  ::kill(std::stoi(answer), SIGTERM);
  co_await t->c->until(event_kind::ready, 2);
  const auto what = number(4);
  const auto became = co_await t->talk.send_to_workers(what);
  CHECK(became.delivered == 2);
  const auto text = co_await t->heard(recipient::process(std::stoi(answer)));
  CHECK(text.find("4 ") != std::string::npos);
  const auto in_slot = co_await t->obey(recipient::slot(1), "slot 1", 5);
  CHECK(in_slot.delivered == 1);
  const auto old = co_await t->heard(recipient::process(std::stoi(answer)));
  CHECK(old.find("5 ") == std::string::npos);
  t->c->primary.kill("the test ends");
  co_await t->c->ended();
}

ASYNC_TEST("a worker that dies before it has answered is gone, in the receipt, and its replacement is not disturbed") {
  auto t = co_await townhall::open(townhall::options(2));
  const auto executor = co_await asio::this_coro::executor;
  const pid_t victim = t->c->pid(2);
  ::kill(victim, SIGSTOP);
  const auto what = number(5);
  const auto became = begin(executor, t->talk.broadcast(what));
  const auto later = number(6);
  const auto other = co_await t->talk.send_to(recipient::slot(1), later);  // behind it
  CHECK(other.complete());
  CHECK_FALSE(became->has_value());
  ::kill(victim, SIGKILL);
  const bool told = co_await eventually([&] { return became->has_value(); });
  REQUIRE(told);
  CHECK((*became)->delivered == 1);
  REQUIRE((*became)->failures.size() == 1);
  CHECK((*became)->failures[0].why == gone);
  CHECK((*became)->failures[0].who.pid == victim);
  CHECK((*became)->failures[0].who.slot == 2);
  co_await t->c->until(event_kind::ready, 3);
  const auto text = co_await t->heard(recipient::slot(2));
  CHECK(text.find("5 ") == std::string::npos);
  co_await t->c->stop();
}

ASYNC_TEST("what nobody listens to is refused, or counts as delivered where that is the policy") {
  auto t = co_await townhall::open(townhall::options(1));
  const town::report unknown;
  const auto refused = co_await t->talk.send_to_workers(unknown);
  REQUIRE(refused.failures.size() == 1);
  CHECK(refused.failures[0].why == unheard);
  messenger<town::rumour> gossip(t->c->primary);
  const town::rumour what;
  const auto ignored = co_await gossip.send_to_workers(what);
  CHECK(ignored.complete());
  const auto here = co_await gossip.send_to_primary(what);
  CHECK(here.failures.at(0).why == unheard);
  messenger<town::rumour> deaf(t->c->primary, unheard_policy::ignore);
  const auto now = co_await gossip.send_to_primary(what);
  CHECK(now.complete());
  co_await t->c->stop();
}

ASYNC_TEST("what a listener throws comes back to the sender, and the worker lives on") {
  auto t = co_await townhall::open(townhall::options(2));
  town::mischief what;
  what.what = "throw";
  const auto became = co_await t->talk.send_to(recipient::slot(1), what);
  REQUIRE(became.failures.size() == 1);
  CHECK(became.failures[0].why == failed);
  CHECK(became.failures[0].what == "thrown in the listener");
  const auto order = co_await t->obey(recipient::slot(1), "nobody", 1);
  CHECK(order.text.find("nobody is called nobody") != std::string::npos);
  CHECK(t->c->count(event_kind::exited) == 0);
  co_await t->c->stop();
}

ASYNC_TEST("listeners are called in their order; once is once, and off is off, also from inside") {
  auto t = co_await townhall::open(townhall::options(1));
  std::string calls;
  town::talk other(t->c->primary);
  subscription self;
  const auto first = other.on<town::news>([&](const town::news&) { calls += "a"; });
  other.once<town::news>([&](const town::news&) -> asio::awaitable<void> {
    calls += "b";
    co_await sleep(1ms);
    calls += "c";
  });
  self = other.on<town::news>([&](const town::news&) {
    calls += "d";
    other.off(self);
  });
  const auto what = number(1);
  co_await t->talk.send_to_primary(what);
  CHECK(calls == "abcd");
  co_await t->talk.send_to_primary(what);
  CHECK(calls == "abcda");
  other.off(first);
  other.off(first);
  const auto became = co_await t->talk.send_to_primary(what);
  CHECK(became.failures.at(0).why == unheard);
  co_await t->c->stop();
}

ASYNC_TEST("messages of one sender come in their order, however many are under way") {
  auto t = co_await townhall::open(townhall::options(1));
  const auto executor = co_await asio::this_coro::executor;
  co_await t->until_heard(recipient::slot(1), "all-ready");
  std::vector<std::shared_ptr<std::optional<receipt>>> sent;
  std::string expected;
  for (std::uint32_t i = 0; i < 500; ++i) {
    const auto what = number(i);
    sent.push_back(begin(executor, t->talk.send_to(recipient::slot(1), what)));
    expected += std::to_string(i) + " ";
  }
  const bool all = co_await eventually(
      [&] { return std::all_of(sent.begin(), sent.end(), [](const auto& each) { return each->has_value(); }); });
  REQUIRE(all);
  for (const auto& each : sent) CHECK((*each)->complete());
  const auto text = co_await t->heard(recipient::slot(1));
  CHECK(text.find(expected) != std::string::npos);
  co_await t->c->stop();
}

ASYNC_TEST("a slow worker: of what waits for it, the oldest is dropped and its sender told, and nothing else is lost") {
  auto options = townhall::options(1);
  delivery_options mail;
  mail.in_flight = 2;
  mail.queue = 3;
  mail.slow = slow_receiver::drop_oldest;
  options.delivery = mail;
  auto t = co_await townhall::open(options);
  const auto executor = co_await asio::this_coro::executor;
  co_await t->until_heard(recipient::slot(1), "all-ready");
  ::kill(t->c->pid(1), SIGSTOP);
  std::vector<std::shared_ptr<std::optional<receipt>>> sent;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const auto what = number(i);
    sent.push_back(begin(executor, t->talk.send_to_workers(what)));
    co_await yield(3);
  }
  const bool dropped = co_await eventually(
      [&] { return std::all_of(&sent[2], &sent[5], [](const auto& each) { return each->has_value(); }); });
  REQUIRE(dropped);
  for (std::size_t i = 0; i < 8; ++i) CHECK(sent[i]->has_value() == (i >= 2 && i < 5));
  for (std::size_t i = 2; i < 5; ++i) CHECK((*sent[i])->failures.at(0).why == undelivered::dropped);
  ::kill(t->c->pid(1), SIGCONT);
  const bool all = co_await eventually(
      [&] { return std::all_of(sent.begin(), sent.end(), [](const auto& each) { return each->has_value(); }); });
  REQUIRE(all);
  for (const std::size_t i : {0, 1, 5, 6, 7}) CHECK((*sent[i])->complete());
  const auto text = co_await t->heard(recipient::slot(1));
  CHECK(text.find("0 1 5 6 7 ") != std::string::npos);
  co_await t->c->stop();
}

ASYNC_TEST("a slow worker that is disconnected is replaced, and every message says what became of it") {
  auto options = townhall::options(1);
  delivery_options mail;
  mail.in_flight = 1;
  mail.queue = 2;
  mail.slow = slow_receiver::disconnect;
  options.delivery = mail;
  auto t = co_await townhall::open(options);
  const auto executor = co_await asio::this_coro::executor;
  const pid_t old = t->c->pid(1);
  ::kill(old, SIGSTOP);
  std::vector<std::shared_ptr<std::optional<receipt>>> sent;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const auto what = number(i);
    sent.push_back(begin(executor, t->talk.send_to_workers(what)));
    co_await yield(3);
  }
  const bool refused = co_await eventually(
      [&] { return std::all_of(&sent[1], &sent[4] + 1, [](const auto& each) { return each->has_value(); }); });
  REQUIRE(refused);
  co_await t->c->until(event_kind::failed);
  CHECK_FALSE(sent[0]->has_value());
  for (std::size_t i = 1; i < 5; ++i) {
    REQUIRE(sent[i]->has_value());
    CHECK((*sent[i])->failures.at(0).why == slow);
  }
  CHECK(t->c->count(event_kind::failed) == 1);
  ::kill(old, SIGCONT);
  co_await t->c->until(event_kind::ready, 2);
  const auto what = number(9);
  const auto became = co_await t->talk.send_to(recipient::slot(1), what);
  CHECK(became.complete());
  const bool told = co_await eventually([&] { return sent[0]->has_value(); });
  CHECK(told);
  co_await t->c->stop();
}

ASYNC_TEST("a send that is cancelled does not come to who has not got it, and cancels the listener that runs") {
  auto options = townhall::options(1);
  delivery_options mail;
  mail.in_flight = 1;
  options.delivery = mail;
  auto t = co_await townhall::open(options);
  town::mischief endless;
  endless.what = "sleep";
  const auto executor = co_await asio::this_coro::executor;
  cancellable sleeping(executor, t->talk.send_to_workers(endless));
  const bool asleep = co_await eventually([&] { return !t->reports.empty(); });
  CHECK(asleep);
  const auto first = co_await sleeping.cancel();
  CHECK(first == operation_aborted());
  const auto woken = co_await t->until_heard(recipient::slot(1), "cancelled ");
  CHECK(woken.find("cancelled ") != std::string::npos);
  ::kill(t->c->pid(1), SIGSTOP);
  const auto one = number(1), two = number(2);
  const auto waits = begin(executor, t->talk.send_to_workers(one));
  co_await yield(5);
  cancellable queued(executor, t->talk.send_to_workers(two));
  co_await yield(5);
  const auto second = co_await queued.cancel();
  CHECK(second == operation_aborted());
  ::kill(t->c->pid(1), SIGCONT);
  const auto text = co_await t->heard(recipient::slot(1));
  CHECK(text.find("1 ") != std::string::npos);
  CHECK(text.find("2 ") == std::string::npos);
  CHECK(waits->has_value());
  co_await t->c->stop();
}

ASYNC_TEST("two processes talk directly, through a channel of their own that follows them when they are replaced") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  for (const std::string& to :
       {std::string("slot 2"), std::string("agent cache"), "pid " + std::to_string(t->c->pid(1))}) {
    const auto done = co_await t->obey(recipient::slot(1), to, 1, true);
    CHECK_MESSAGE(done.text == "delivered to 1 of 1", to);
  }
  const auto text = co_await t->heard(recipient::slot(2));
  CHECK(text.find("1 from 1 ") != std::string::npos);
  ::kill(t->c->pid(2), SIGKILL);
  co_await t->c->until(event_kind::exited);
  co_await t->c->until(event_kind::ready, 4);
  const auto again = co_await t->obey(recipient::slot(1), "slot 2", 2, true);
  CHECK(again.text == "delivered to 1 of 1");
  const auto fresh = co_await t->heard(recipient::slot(2));
  CHECK(fresh.find("2 from 1 ") != std::string::npos);
  const auto nobody = co_await t->obey(recipient::slot(1), "slot 9", 3, true);
  CHECK(nobody.text == "delivered to 0 of 1; worker 9: gone");
  co_await t->c->stop();
}

ASYNC_TEST("a direct channel to a worker that drains is left for the one in its place") {
  auto t = co_await townhall::open(townhall::options(2));
  // One for each worker, which drains for as long as its client holds it.
  auto first = co_await client::connect(t->c->at());
  auto second = co_await client::connect(t->c->at());
  for (auto* each : {&first, &second}) {
    const auto begun = co_await each->ask("hold");
    CHECK(begun == "holding");
  }
  auto done = co_await t->obey(recipient::slot(1), "slot 2", 1, true);
  CHECK(done.delivered == 1);
  const pid_t old = t->c->pid(2);
  ::kill(old, SIGTERM);
  co_await t->c->until(event_kind::ready, 3);
  // Worker 1 leaves the channel when it hears of the drain from the other end, and what it sends before comes there.
  std::string text;
  const auto end = std::chrono::steady_clock::now() + patience / 2;
  for (std::uint32_t i = 2; text.empty() && std::chrono::steady_clock::now() < end; ++i) {
    done = co_await t->obey(recipient::slot(1), "slot 2", i, true);
    CHECK(done.delivered == 1);
    text = co_await t->heard(recipient::slot(2));
    if (text.find(" from 1 ") == std::string::npos) text.clear();
  }
  CHECK_FALSE(text.empty());
  CHECK(t->c->count(event_kind::exited) == 0);  // the old one drains still
  first.say("go on");
  second.say("go on");
  co_await t->c->stop();
}

ASYNC_TEST("a large message arrives whole") {
  auto t = co_await townhall::open(townhall::options(1));
  town::mischief large;
  large.what.assign(3'000'000, 'x');
  const auto became = co_await t->talk.send_to_workers(large);
  CHECK(became.complete());
  co_await t->c->stop();
}

}  // namespace cohort::test::messenger_test
