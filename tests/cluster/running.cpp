// SPDX-License-Identifier: BSL-1.0
#include "running.hpp"

namespace cohort::test {

running::running(const asio::any_io_executor& executor, cluster_options options)
    : primary(executor, std::move(options)) {}

running::~running() = default;

std::shared_ptr<running> running::start(const asio::any_io_executor& executor, cluster_options options,
                                        const std::function<void(cluster&)>& before) {
  auto self = std::make_shared<running>(executor, std::move(options));
  if (before) before(self->primary);
  asio::co_spawn(executor, self->primary.run(), [self](std::exception_ptr thrown, int returned) {
    self->failure = thrown;
    self->status = returned;
  });
  asio::co_spawn(executor, collect(self), asio::detached);
  return self;
}

asio::awaitable<std::shared_ptr<running>> running::ready(cluster_options options) {
  const auto workers = options.worker_count();
  auto self = start(co_await asio::this_coro::executor, std::move(options));
  const auto is_ready = [&](unsigned slot) {
    return std::any_of(self->events.begin(), self->events.end(),
                       [&](const auto& each) { return each.what == event_kind::ready && each.slot == slot; });
  };
  for (unsigned slot = 1; slot <= workers; ++slot) {
    const bool seen = co_await eventually([&] { return is_ready(slot); }, patience - 1s);
    if (!seen) FAIL("worker ", slot, " does not get ready; there are:\n", self->text());
  }
  co_return self;
}

asio::awaitable<void> running::until(event_kind what, std::size_t times) {
  const bool seen = co_await eventually([&] { return count(what) >= times; }, patience - 1s);
  if (!seen) FAIL("no event ", static_cast<int>(what), ", times ", times, "; there are:\n", text());
}

asio::awaitable<reload_result> running::reload() {
  const auto result = co_await primary.reload();
  if (result.generation == 0) co_return result;  // refused, without an event
  const auto expected = ++reloads_;
  const bool told = co_await eventually([&] {
    return count(event_kind::reloaded) + count(event_kind::reload_failed) >= expected;
  });
  CHECK(told);
  co_return result;
}

asio::awaitable<int> running::ended(std::chrono::milliseconds limit) {
  const bool done = co_await eventually([&] { return status.has_value() && all_events; }, limit);
  if (!done) FAIL("the cluster has not ended; there are:\n", text());
  if (failure) std::rethrow_exception(failure);
  co_return *status;
}

asio::awaitable<int> running::stop() {
  primary.stop("the test ends");
  co_return co_await ended();
}

std::string running::text() const {
  std::string result;
  for (const auto& each : events) result += to_string(each) + '\n';
  return result;
}

asio::awaitable<void> running::collect(std::shared_ptr<running> self) {
  while (auto event = co_await self->primary.next_event()) self->events.push_back(*event);
  self->all_events = true;
}

std::shared_ptr<client_loop> client_loop::start(const asio::any_io_executor& executor, asio::ip::tcp::endpoint to,
                                                std::string request, std::size_t parallel) {
  auto self = std::make_shared<client_loop>();
  self->running_ = parallel;
  for (std::size_t i = 0; i < parallel; ++i) asio::co_spawn(executor, run(self, to, request), asio::detached);
  return self;
}

asio::awaitable<void> client_loop::stop() {
  stopped_ = true;
  const bool ended = co_await eventually([this] { return running_ == 0; });
  CHECK_MESSAGE(ended, "a client waits for its answer");
}

asio::awaitable<void> client_loop::more(std::size_t count) {
  const auto enough = answers.size() + count;
  const bool came = co_await eventually([&] { return answers.size() >= enough; });
  CHECK_MESSAGE(came, "the answers stop");
}

asio::awaitable<void> client_loop::run(std::shared_ptr<client_loop> self, asio::ip::tcp::endpoint to,
                                       std::string request) {
  while (!self->stopped_) {
    std::string answer;
    try {
      answer = co_await ask_once(to, request);
    } catch (const std::system_error& error) {
      answer = std::string("(") + error.what() + ")";
    }
    self->answers.push_back(answer);
  }
  --self->running_;
}

asio::awaitable<std::string> refusal(cluster_options options) {
  cluster primary(co_await asio::this_coro::executor, std::move(options));
  co_return co_await text_of(primary.run());
}

}  // namespace cohort::test
