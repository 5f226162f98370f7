// SPDX-License-Identifier: BSL-1.0
// Many children at once, and one after the other: what is left behind shows here first.
#include <csignal>
#include <exception>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/process/spawn.hpp"
#include "children.hpp"

namespace cohort::test::storm_test {
namespace {

// As many descriptors as the test needs, or as the system lets it have.
class descriptor_limit {
 public:
  explicit descriptor_limit(rlim_t wanted) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    auto raised = before_;
    if (raised.rlim_cur < wanted) raised.rlim_cur = std::min(wanted, raised.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &raised);
    now_ = raised.rlim_cur;
  }
  descriptor_limit(const descriptor_limit&) = delete;
  ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  rlim_t get() const noexcept { return now_; }

 private:
  rlimit before_{};
  rlim_t now_ = 0;
};

ASYNC_TEST("a thousand children run at once, and each is waited for") {
  constexpr int count = 1'000;
  const descriptor_limit limit(count + 100);  // a pidfd each
  REQUIRE(limit.get() >= count + 100);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const descriptor reading(ends[0]);
  descriptor writing(ends[1]);
  auto cat = command("cat").in(stdio::borrow(reading.get())).out(stdio::null);
  std::vector<child> children;
  children.reserve(count);
  for (int i = 0; i < count; ++i) {
    auto started = co_await spawn(cat);
    children.push_back(std::move(started));
  }
  int running = 0, succeeded = 0;
  for (auto& each : children) running += each.running();
  CHECK(running == count);

  task_group waits(co_await asio::this_coro::executor);
  const auto wait = [&](child& each) -> asio::awaitable<void> {
    const auto status = co_await each.wait();
    succeeded += status.success();
  };
  for (auto& each : children) waits.start(wait(each), [](std::exception_ptr failure) { CHECK_FALSE(failure); });
  co_await yield(2);
  CHECK(waits.size() == count);
  writing.reset();
  co_await waits.wait_empty();
  CHECK(succeeded == count);
}

struct storm {
  int next = 0, exited = 0, killed = 0, cancelled = 0, dropped = 0;
};

asio::awaitable<exit_status> wait_for(child& what) { co_return co_await what.wait(); }

// A wait that is cancelled once it waits.
asio::awaitable<std::error_code> cancelled_wait(child& what) {
  const auto executor = co_await asio::this_coro::executor;
  asio::cancellation_signal cancel;
  asio::post(executor, [&] { asio::post(executor, [&] { cancel.emit(asio::cancellation_type::terminal); }); });
  try {
    auto wait =
        asio::co_spawn(executor, wait_for(what), asio::bind_cancellation_slot(cancel.slot(), asio::use_awaitable));
    co_await std::move(wait);
  } catch (const std::system_error& error) {
    co_return error.code();
  }
  co_return std::error_code();
}

asio::awaitable<void> one_of_three(storm& all, int number) {
  if (number % 3 == 0) {
    const auto code = number % 200;
    auto started = co_await spawn(command("sh", "-c", "exit " + std::to_string(code)));
    const auto status = co_await started.wait();
    all.exited += status == exit_status::exited(code);
    co_return;
  }
  auto started = co_await spawn(command("cat").in(stdio::pipe).out(stdio::pipe));
  if (number % 3 == 1) {
    const int signal = number % 2 == 0 ? SIGKILL : SIGTERM;
    started.signal(signal);
    const auto status = co_await started.wait();
    all.killed += status == exit_status::killed(signal);
    co_return;
  }
  const auto code = co_await cancelled_wait(started);
  all.cancelled += code == operation_aborted();
  if (number % 2 == 0) {
    ++all.dropped;  // it is killed, and reaped by the loop
    co_return;
  }
  started.in().close();
  const auto status = co_await started.wait();
  all.dropped += status == exit_status::exited(0);
}

ASYNC_TEST("hundreds of children that exit, are killed, or whose waits are cancelled leave nothing") {
  constexpr int count = sanitized ? 300 : 900, at_once = 32;
  storm all;
  task_group runners(co_await asio::this_coro::executor);
  const auto run = [&]() -> asio::awaitable<void> {
    while (all.next < count) co_await one_of_three(all, all.next++);
  };
  for (int i = 0; i < at_once; ++i) {
    runners.start(run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
  }
  co_await runners.wait_empty();
  CHECK(all.exited == count / 3);
  CHECK(all.killed == count / 3);
  CHECK(all.cancelled == count / 3);
  CHECK(all.dropped == count / 3);
}

}  // namespace
}  // namespace cohort::test::storm_test
