// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/pool/process_pool.hpp"

#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../support/asio.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "../support/harness.hpp"
#include "pools.hpp"

namespace cohort::test::process_pool_test {

// -- jobs and their results ------------------------------------------------------------------------------------------

ASYNC_TEST("a job's result comes back, and its process does the next job") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(2));
  CHECK(pool.stats().processes == 0);
  auto todo = to("pid");
  const auto first = co_await pool.run(todo);
  for (int i = 0; i < 5; ++i) {
    const auto again = co_await pool.run(todo);
    CHECK(again == first);
  }
  CHECK(pool.stats().started == 1);
  CHECK(pool.stats().processes == 1);
  co_await pool.close();
  CHECK(pool.stats().processes == 0);
}

ASYNC_TEST("an argument may be named or made inside") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const auto named = to("echo", 0, "named");
  auto text = co_await pool.run(named);
  CHECK(text == "named");
  std::string large(100'000, 'x');
  text = co_await pool.run("echo", 0, std::move(large));
  CHECK(text == std::string(100'000, 'x'));
  text = co_await pool.run("echo", 0, "made inside");
  CHECK(text == "made inside");
  co_await pool.close();
}

ASYNC_TEST("as many jobs run at a time as there may be processes, each in its own") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(3));
  std::vector<background> jobs;
  for (int i = 0; i < 5; ++i) jobs.push_back(start(pool, to("block", 20)));
  CHECK(pool.stats().running == 3);
  CHECK(pool.stats().waiting == 2);
  CHECK(pool.stats().processes == 3);
  for (auto& each : jobs) {
    const auto seen = co_await each.wait();
    CHECK(seen.value == "done");
  }
  CHECK(pool.stats().started == 3);
  CHECK(pool.stats().running == 0);
  co_await pool.close();
}

ASYNC_TEST("a function is a job: with parameters, as a coroutine, with no parameter, and without a result") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<prime_job> primes(executor, pool_of(1));
  bool prime = co_await primes.run(4294967291u);
  CHECK(prime);
  prime = co_await primes.run(4294967293u);
  CHECK_FALSE(prime);
  process_pool<join_job> joiner(executor, pool_of(1));
  const auto joined = co_await joiner.run("left, ", "right");
  CHECK(joined == "left, right");
  process_pool<forty_two_job> answers(executor, pool_of(1));
  const int answer = co_await answers.run();
  CHECK(answer == 42);
  process_pool<nothing_job> nothing(executor, pool_of(1));
  co_await nothing.run(1);
  co_await primes.close();
  co_await joiner.close();
  co_await answers.close();
  co_await nothing.close();
}

ASYNC_TEST("a coroutine that takes its argument by reference has it until it ends") {
  const auto executor = co_await asio::this_coro::executor;
  const std::string text(100, 'x');  // longer than a string holds in itself
  process_pool<reference_job> references(executor, pool_of(1));
  auto answer = co_await references.run(text);
  CHECK(answer == text);
  process_pool<later_job> functions(executor, pool_of(1));
  answer = co_await functions.run(text, 5u);
  CHECK(answer == text);
  co_await references.close();
  co_await functions.close();
}

ASYNC_TEST("a job without a result completes when it is done, and fails like any other") {
  const scratch files;
  process_pool<touch_job> pool(co_await asio::this_coro::executor, pool_of(1));
  co_await pool.run(files / "a");
  CHECK(std::filesystem::exists(files / "a"));
  const auto text = co_await text_of(pool.run(files / "a"));
  CHECK(text.find("File exists") != text.npos);
  co_await pool.close();
}

PLAIN_TEST("a job is called by its name, or by its type") {
  CHECK(job_name<steps_job>() == "steps");
  CHECK(job_name<deed_job>() == "cohort::test::deed_job");
}

// -- jobs that fail ---------------------------------------------------------------------------------------------------

ASYNC_TEST("what a job throws arrives as its text, and its process goes on") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  auto seen = co_await outcome_of(pool, to("throw", 0, "no such page"));
  CHECK(seen.code == errc::job_threw);
  CHECK(seen.text == "job cohort::test::deed_job: no such page: the job has thrown");
  seen = co_await outcome_of(pool, to("throw"));
  CHECK(seen.text == "job cohort::test::deed_job: an exception without a text: the job has thrown");
  seen = co_await outcome_of(pool, to("throw number", 7));
  CHECK(seen.code == errc::job_threw);
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

ASYNC_TEST("a job that crashes fails with its process's exit status, and the next one gets another process") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  unsigned started = 0;
  const auto crash = [&](deed todo, exit_status status) -> asio::awaitable<void> {
    const auto seen = co_await outcome_of(pool, todo);
    CHECK(seen.code == errc::job_crashed);
    CHECK(seen.status == status);
    const auto text = fmt::format("job cohort::test::deed_job: {}: the job's process has ended", status);
    CHECK(seen.text == text);
    ++started;
    CHECK(pool.stats().started == started);
  };
  co_await crash(to("raise", SIGKILL), exit_status::killed(SIGKILL));
  co_await crash(to("raise", SIGTERM), exit_status::killed(SIGTERM));
  co_await crash(to("exit", 3), exit_status::exited(3));
  co_await crash(to("exit", 0), exit_status::exited(0));
  if (!sanitized) co_await crash(to("abort"), exit_status::killed(SIGABRT));
  const auto text = co_await pool.run("echo", 0, "still here");
  CHECK(text == "still here");
  co_await pool.close();
}

ASYNC_TEST("a crash fails no job but its own") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(2));
  auto slow = start(pool, to("wait", 50));
  auto crashing = start(pool, to("raise", SIGKILL));
  auto waiting = start(pool, to("echo", 0, "later"));
  auto seen = co_await crashing.wait();
  CHECK(seen.code == errc::job_crashed);
  seen = co_await waiting.wait();
  CHECK(seen.value == "later");
  seen = co_await slow.wait();
  CHECK(seen.value == "done");
  co_await pool.close();
}

ASYNC_TEST("a process that ends while a child of it holds its channel is seen to have ended") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const auto seen = co_await outcome_of(pool, to("leave child", 1000));
  CHECK(seen.code == errc::job_crashed);
  CHECK(seen.status == exit_status::exited(7));
  co_await pool.close();
}

ASYNC_TEST("a job that forks and returns twice shifts no result, and costs its process") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const auto forked = co_await outcome_of(pool, to("fork"));
  CHECK(forked.value == "forked");
  // Both processes read the channel now. Whoever takes an order, what is answered to it is its own answer.
  unsigned crashed = 0;
  for (int i = 0; crashed == 0 && i < 1000; ++i) {
    const auto text = std::to_string(i);
    const auto seen = co_await outcome_of(pool, to("echo", 0, text));
    if (seen.code) {
      CHECK(seen.code == errc::job_crashed);
      CHECK(seen.text.find("answered twice") != std::string::npos);
      ++crashed;
    } else {
      CHECK(seen.value == text);
    }
  }
  CHECK(crashed == 1);
  const auto next = co_await outcome_of(pool, to("echo", 0, "next"));
  CHECK(next.value == "next");
  co_await pool.close();
}

ASYNC_TEST("where SIGCHLD is ignored a job that crashes names the cause") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  ::signal(SIGCHLD, SIG_IGN);
  const auto seen = co_await outcome_of(pool, to("exit", 3));
  ::signal(SIGCHLD, SIG_DFL);
  CHECK(seen.code == errc::job_crashed);
  CHECK(seen.text.find("ignores SIGCHLD") != std::string::npos);
  co_await pool.close();
}

asio::awaitable<void> echo_often(process_pool<deed_job>& pool, int times, std::atomic<int>& right) {
  for (int i = 0; i < times; ++i) {
    const auto text = std::to_string(i);
    const auto seen = co_await outcome_of(pool, to("echo", 0, text));
    right += seen.value == text;
  }
}

asio::awaitable<void> own_pool(int times, std::atomic<int>& right) {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  co_await echo_often(pool, times, right);
  const auto crash = co_await outcome_of(pool, to("exit", 3));
  right += crash.code == errc::job_crashed;
  const auto endless = to("hang", 0, "/dev/null");
  const auto late = co_await error_of(with_timeout(pool.run(endless), 1ms));
  right += late == errc::timed_out;
}

PLAIN_TEST("pools work on several threads, with strands and without, each alone and one for all") {
  std::atomic<int> right{0};
  asio::thread_pool threads(4);
  for (int i = 0; i < 3; ++i) asio::co_spawn(threads, own_pool(20, right), asio::detached);
  asio::co_spawn(asio::make_strand(threads), own_pool(20, right), asio::detached);
  std::optional<process_pool<deed_job>> shared;
  shared.emplace(threads.get_executor(), pool_of(2));
  std::atomic<int> left{4};
  const auto work = [&]() -> asio::awaitable<void> {
    co_await echo_often(*shared, 20, right);
    if (--left == 0) co_await shared->close();
  };
  for (int i = 0; i < 4; ++i) asio::co_spawn(threads, work(), asio::detached);
  threads.join();
  CHECK(right == 4 * 22 + 4 * 20);
}

ASYNC_TEST("a process that closes its channel and stays is killed") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const auto seen = co_await outcome_of(pool, to("close channel"));
  CHECK(seen.code == errc::job_crashed);
  CHECK(seen.status == exit_status::killed(SIGKILL));
  co_await pool.close();
}

ASYNC_TEST("a job that has answered has its result, although its process dies while its progress is dealt with") {
  process_pool<steps_job> pool(co_await asio::this_coro::executor, pool_of(1));
  span_of_time todo;
  todo.steps = 2;
  const scratch files;
  todo.mark = files / "answered";
  bool killed = false;
  const auto slowly = [&](std::uint32_t step) -> asio::awaitable<void> {
    if (step == 2) co_return;
    const bool answered = co_await eventually([&] { return std::filesystem::exists(todo.mark); });
    CHECK(answered);
    kill_children();
    killed = true;
    const bool dead = co_await eventually(&a_child_has_ended);
    CHECK(dead);
    co_await yield(20);  // in which the pool hears of it
  };
  const auto steps = co_await pool.run_with_progress(slowly, todo);
  CHECK(steps == 2);
  CHECK(killed);
  co_await pool.close();
}

ASYNC_TEST("a process that dies while it has no job costs none") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  auto todo = to("pid");
  const auto first = co_await pool.run(todo);
  ::kill(std::stoi(first), SIGKILL);
  const bool reaped = co_await eventually([&] { return pool.stats().processes == 0; });
  CHECK(reaped);
  const auto second = co_await pool.run(todo);
  CHECK(first != second);

  // The same when nobody has seen it die yet.
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, std::stoi(second), 0));
  ::kill(std::stoi(second), SIGKILL);
  pollfd ended{pidfd, POLLIN, 0};
  ::poll(&ended, 1, 5000);
  ::close(pidfd);
  CHECK(pool.stats().processes == 1);
  const auto third = co_await pool.run(todo);
  CHECK(second != third);
  co_await pool.close();
}

ASYNC_TEST("a job that crashes its process again and again is tried so often, and then reported") {
  const scratch files;
  const auto executor = co_await asio::this_coro::executor;
  auto options = pool_of(1);
  options.retries = 2;
  process_pool<deed_job> patient(executor, options);
  auto seen = co_await outcome_of(patient, to("crash times", 2, files / "a"));
  CHECK(seen.value == "done");
  CHECK(patient.stats().started == 3);
  seen = co_await outcome_of(patient, to("crash times", 3, files / "b"));
  CHECK(seen.code == errc::job_crashed);
  CHECK(seen.status == exit_status::killed(SIGKILL));
  CHECK(patient.stats().started == 5);  // the first of them was there
  seen = co_await outcome_of(patient, to("throw", 0, "no"));
  CHECK(seen.code == errc::job_threw);
  CHECK(patient.stats().started == 6);
  co_await patient.close();
}

// -- deadlines and cancelling -----------------------------------------------------------------------------------------

ASYNC_TEST("a job that passes its deadline is killed, and only it") {
  const scratch files;
  const auto executor = co_await asio::this_coro::executor;
  auto options = pool_of(2);
  options.deadline = 1s;
  options.retries = 2;
  process_pool<deed_job> pool(executor, options);
  co_await pool.run("echo", 0, "");
  auto hanging = start(pool, to("hang", 0, files / "pid"));
  auto seen = co_await hanging.wait();
  CHECK(seen.code == errc::timed_out);
  CHECK(seen.text == "job cohort::test::deed_job: not done after 1 s: timed out");
  const bool gone = co_await eventually([&] { return pool.stats().processes == 0; });
  CHECK(gone);
  const auto text = co_await pool.run("echo", 0, "next");
  CHECK(text == "next");
  CHECK(pool.stats().started == 2);  // it was not tried again
  co_await pool.close();
}

ASYNC_TEST("a cancelled job is killed, and only it") {
  const scratch files;
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(2));
  auto hanging = start(pool, to("hang", 0, files / "pid"));
  auto waiting = start(pool, to("wait", 100));
  const bool begun = co_await eventually([&] { return std::filesystem::exists(files / "pid"); });
  CHECK(begun);
  hanging.cancel();
  auto seen = co_await hanging.wait();
  CHECK(seen.code == operation_aborted());
  seen = co_await waiting.wait();
  CHECK(seen.value == "done");
  const bool gone = co_await eventually([&] { return pool.stats().processes == 1; });
  CHECK(gone);
  CHECK(pool.stats().started == 2);
  co_await pool.close();
}

ASYNC_TEST("with_timeout ends a job as a deadline does") {
  const scratch files;
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  auto todo = to("hang", 0, files / "pid");
  co_await pool.run("echo", 0, "");  // the process is there, so that the job begins within the time
  const auto error = co_await error_of(with_timeout(pool.run(todo), 50ms));
  CHECK(error == errc::timed_out);
  const auto text = co_await pool.run("echo", 0, "next");
  CHECK(text == "next");
  co_await pool.close();
}

ASYNC_TEST("a job that is cancelled while it waits for a process costs none") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(1));
  auto running = start(pool, to("wait", 50));
  auto waiting = start(pool, to("echo"));
  CHECK(pool.stats().waiting == 1);
  waiting.cancel();
  auto seen = co_await waiting.wait();
  CHECK(seen.code == operation_aborted());
  CHECK(pool.stats().waiting == 0);
  seen = co_await running.wait();
  CHECK(seen.value == "done");
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

PLAIN_TEST("a job can be cancelled at every suspension point, and the pool goes on") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
    auto todo = to("echo", 0, "text");
    const auto text = co_await cancelled(pool.run(todo));
    if (text) CHECK(*text == "text");
    const auto again = co_await pool.run(todo);
    CHECK(again == "text");
    CHECK(pool.stats().started == (text ? 1 : 2));
    co_await pool.close();
    CHECK(pool.stats().processes == 0);
  });
  CHECK(points > 0);
}

PLAIN_TEST("a job with a deadline, progress and a retry can be cancelled at every suspension point") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto options = pool_of(1);
    options.deadline = 1h;
    options.retries = 1;
    process_pool<steps_job> pool(co_await asio::this_coro::executor, options);
    span_of_time todo;
    todo.steps = 3;
    unsigned seen = 0;
    const auto count = [&seen](std::uint32_t) -> asio::awaitable<void> {
      co_await yield();
      ++seen;
    };
    const auto steps = co_await cancelled(pool.run_with_progress(count, todo));
    if (steps) {
      CHECK(*steps == 3);
      CHECK(seen == 3);
    }
    const auto again = co_await pool.run(todo);
    CHECK(again == 3);
    co_await pool.close();
  });
  CHECK(points > 3);
}

// -- how many processes, and for how long -----------------------------------------------------------------------------

ASYNC_TEST("a process ends after so many jobs") {
  auto options = pool_of(1);
  options.max_jobs = 3;
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  std::vector<std::string> pids;
  auto todo = to("pid");
  for (int i = 0; i < 7; ++i) {
    auto pid = co_await pool.run(todo);
    pids.push_back(std::move(pid));
  }
  CHECK(pids[0] == pids[2]);
  CHECK(pids[2] != pids[3]);
  CHECK(pids[3] == pids[5]);
  CHECK(pids[5] != pids[6]);
  CHECK(pool.stats().started == 3);
  CHECK(pool.stats().processes == 1);
  co_await pool.close();
}

ASYNC_TEST("a process that has grown too large ends after its job") {
  constexpr int limit = sanitized ? 200'000'000 : 50'000'000;
  auto options = pool_of(1);
  options.max_rss = limit;
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  auto todo = to("pid");
  const auto first = co_await pool.run(todo);
  auto same = co_await pool.run(todo);
  CHECK(same == first);
  co_await pool.run("grow", 2 * limit, "");
  const auto second = co_await pool.run(todo);
  CHECK(first != second);
  co_await pool.close();
}

ASYNC_TEST("jobs get a process in the order in which they came, and the pool says when its queue is full") {
  const auto executor = co_await asio::this_coro::executor;
  auto options = pool_of(1);
  options.queue = 2;
  process_pool<deed_job> pool(executor, options);
  std::vector<int> order;
  std::vector<background> jobs;
  const auto job = [&](int number) -> asio::awaitable<outcome> {
    auto seen = co_await outcome_of(pool, to("echo"));
    order.push_back(number);
    co_return seen;
  };
  CHECK_FALSE(pool.is_full());
  for (int number = 0; number < 5; ++number) {
    CHECK(pool.is_full() == (number >= 3));
    jobs.emplace_back(executor, job(number));
  }
  CHECK(pool.stats().waiting == 4);
  for (auto& each : jobs) co_await each.wait();
  CHECK(order == std::vector{0, 1, 2, 3, 4});
  CHECK_FALSE(pool.is_full());
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

// -- progress and handles ---------------------------------------------------------------------------------------------

ASYNC_TEST("progress arrives while the job runs, whether it blocks or not") {
  process_pool<steps_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const scratch files;
  for (const bool blocks : {false, true}) {
    span_of_time todo;
    todo.steps = 4;
    todo.blocks = blocks;
    todo.go_on = files / (blocks ? "blocks" : "waits");
    std::vector<std::uint32_t> seen;
    // The job does not end before its third report is here.
    const auto note = [&](std::uint32_t step) {
      seen.push_back(step);
      if (step == 3) std::ofstream(todo.go_on) << "now";
    };
    const auto steps = co_await pool.run_with_progress(note, todo);
    CHECK(steps == 4);
    CHECK(seen == std::vector<std::uint32_t>{1, 2, 3, 4});
  }
  co_await pool.close();
}

ASYNC_TEST("progress that nobody asked for is dropped, and all of it arrives where it is awaited one by one") {
  process_pool<steps_job> pool(co_await asio::this_coro::executor, pool_of(1));
  span_of_time todo;
  todo.steps = 5'000;
  auto steps = co_await pool.run(todo);
  CHECK(steps == 5'000);
  std::uint32_t last = 0;
  const auto slowly = [&](std::uint32_t step) -> asio::awaitable<void> {
    CHECK(step == last + 1);
    last = step;
    if (step % 1000 == 0) co_await sleep(1ms);
  };
  steps = co_await pool.run_with_progress(slowly, todo);
  CHECK(last == 5'000);
  co_await pool.close();
}

ASYNC_TEST("what is thrown on progress ends the job and goes to the caller") {
  process_pool<steps_job> pool(co_await asio::this_coro::executor, pool_of(1));
  span_of_time todo;
  todo.steps = 1000;
  todo.pause = 5;
  const auto throwing = [](std::uint32_t step) {
    if (step == 2) throw std::runtime_error("enough");
  };
  const auto text = co_await text_of(pool.run_with_progress(throwing, todo));
  CHECK(text == "enough");
  const bool gone = co_await eventually([&] { return pool.stats().processes == 0; });
  CHECK(gone);
  co_await pool.close();
}

ASYNC_TEST("a handle goes with a job, in its argument, and is closed here when the job has ended") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<handle_job> pool(executor, pool_of(1));
  const descriptor file(::memfd_create("test", MFD_CLOEXEC));
  auto kind = co_await pool.run("to a file", descriptor(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3)));
  CHECK(kind == "file");
  char text[32] = {};
  auto size = ::pread(file.get(), text, sizeof text, 0);
  CHECK(std::string(text, static_cast<std::size_t>(size)) == "to a file");

  asio::ip::tcp::acceptor acceptor(executor, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  asio::ip::tcp::socket client(executor), served(executor);
  client.connect(acceptor.local_endpoint());
  acceptor.accept(served);
  kind = co_await pool.run("hello", descriptor(served.release()));
  CHECK(kind == "tcp socket");
  size = ::recv(client.native_handle(), text, sizeof text, MSG_WAITALL);  // to the end: nobody has it now
  CHECK(std::string(text, static_cast<std::size_t>(size)) == "hello");
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

ASYNC_TEST("a job that blocks does not keep back that it has its handle") {
  process_pool<handle_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const descriptor file(::memfd_create("test", MFD_CLOEXEC));
  for (int i = 0; i < 3; ++i) {
    const auto kind = co_await pool.run("block", descriptor(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3)));
    CHECK(kind == "file");
  }
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

ASYNC_TEST("a shared buffer goes with a job, and another one comes back") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<upper_case_job> pool(executor, pool_of(1));
  for (const std::string& text : {std::string("text"), std::string(1'000'000, 'x')}) {
    auto answer = co_await pool.run(shared_buffer(text));
    const auto upper = std::move(answer).make(executor);
    CHECK(upper.size() == text.size());
    CHECK(upper.view().substr(0, 4) == (text == "text" ? "TEXT" : "XXXX"));
  }
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

ASYNC_TEST("a handle goes again with a job that is tried again, and is closed when it has failed") {
  auto options = pool_of(1);
  options.retries = 1;
  process_pool<handle_job> pool(co_await asio::this_coro::executor, options);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const descriptor reading(ends[0]);
  const auto error = co_await error_of(pool.run("crash", descriptor(ends[1])));
  CHECK(error == errc::job_crashed);
  CHECK(pool.stats().started == 2);
  char byte = 0;
  CHECK(::read(reading.get(), &byte, 1) == 0);
  co_await pool.close();
}

ASYNC_TEST("a handle that is not open is an error of its job, and the process goes on") {
  process_pool<handle_job> pool(co_await asio::this_coro::executor, pool_of(1));
  for (int i = 0; i < 2; ++i) {
    const auto error = co_await error_of(pool.run("x", descriptor()));
    CHECK(error == std::errc::bad_file_descriptor);
  }
  const descriptor file(::memfd_create("test", MFD_CLOEXEC));
  const auto kind = co_await pool.run("x", descriptor(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3)));
  CHECK(kind == "file");
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

PLAIN_TEST("a job with a handle can be cancelled at every suspension point, and the handle is closed") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<handle_job> pool(co_await asio::this_coro::executor, pool_of(1));
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const descriptor reading(ends[0]);
    const auto kind = co_await cancelled(pool.run("x", descriptor(ends[1])));
    if (kind) CHECK(*kind == "pipe");
    co_await pool.close();
    char bytes[2];
    const auto size = ::read(reading.get(), bytes, sizeof bytes);  // the end, and not a hang: all copies are closed
    CHECK(size <= 1);
    CHECK(size >= (kind ? 1 : 0));
  });
}

// -- what cannot be ---------------------------------------------------------------------------------------------------

ASYNC_TEST("a program that ends before it takes a job fails the job, and is not tried again for it") {
  const auto executor = co_await asio::this_coro::executor;
  pool_options options;
  options.retries = 3;
  options.program = helper("exit-code", "5");
  process_pool<deed_job> pool(executor, options);
  const auto seen = co_await outcome_of(pool, to("echo"));
  CHECK(seen.code == errc::not_ready);
  CHECK(seen.text == "job cohort::test::deed_job: exited with 5: the process was not ready yet");
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

ASYNC_TEST("a program that does not get ready in time is killed") {
  pool_options options;
  options.start_timeout = 50ms;
  options.program = helper("pool-worker", "late=60000");
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  const auto seen = co_await outcome_of(pool, to("echo"));
  CHECK(seen.code == errc::not_ready);
  CHECK(seen.status == exit_status::killed(SIGKILL));
  CHECK(seen.text.find("because it took too long") != seen.text.npos);
  co_await pool.close();
}

ASYNC_TEST("a program that gets ready late is waited for") {
  pool_options options;
  options.program = helper("pool-worker", "late=50");
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  const auto text = co_await pool.run("echo", 0, std::string(1'000'000, 'x'));
  CHECK(text.size() == 1'000'000);
  co_await pool.close();
}

ASYNC_TEST("a job that the program does not know fails") {
  auto options = pool_of(1);
  options.program = helper("pool-worker").err(stdio::null);
  process_pool<unknown_job> pool(co_await asio::this_coro::executor, options);
  const auto error = co_await error_of(pool.run(1));
  CHECK(error == errc::not_ready);
  co_await pool.close();
}

ASYNC_TEST("a job that the program knows as something else fails, and says so") {
  auto options = pool_of(1);
  options.program = helper("pool-worker").err(stdio::null);
  process_pool<changed_job> pool(co_await asio::this_coro::executor, options);
  for (int i = 0; i < 3; ++i) {
    const auto seen = co_await outcome_of(pool, "text");
    CHECK(seen.code == errc::schema_mismatch);
    CHECK(seen.text.find("the peer receives cohort::pool::order<cohort::test::steps_job>") != seen.text.npos);
  }
  co_await pool.close();
}

ASYNC_TEST("a program that is not there is an error of each job, and leaves nothing") {
  pool_options options;
  options.processes = 1;
  options.program = command("/nope/worker");
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  for (int i = 0; i < 3; ++i) {
    const auto seen = co_await outcome_of(pool, to("echo"));
    CHECK(seen.code == std::errc::no_such_file_or_directory);
    CHECK(seen.text == "spawn: exec \"/nope/worker\": No such file or directory");
  }
  CHECK(pool.stats().running == 0);
  co_await pool.close();
}

ASYNC_TEST("a process that cannot be started or watched is an error of its job alone") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  {
    const fault<&system::calls::clone> no_clone(EAGAIN);
    const auto seen = co_await outcome_of(pool, to("echo"));
    CHECK(seen.text == "spawn: clone: Resource temporarily unavailable");
  }
  {
    const fault<&system::calls::socketpair> no_socket(EMFILE);
    const auto seen = co_await outcome_of(pool, to("echo"));
    CHECK(seen.text == "channel: socketpair: Too many open files");
  }
  const auto text = co_await pool.run("echo", 0, "now");
  CHECK(text == "now");
  co_await pool.close();
}

ASYNC_TEST("an argument or a result that is too large fails its job, and the process goes on") {
  auto options = pool_of(1);
  channel_options small;
  small.max_message = 100'000;
  options.channel = small;
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  auto seen = co_await outcome_of(pool, to("echo", 0, std::string(200'000, 'x')));
  CHECK(seen.code == errc::message_too_large);
  seen = co_await outcome_of(pool, to("large", 200'000));
  CHECK(seen.code == errc::job_threw);
  CHECK(seen.text.find("message too large") != seen.text.npos);
  seen = co_await outcome_of(pool, to("echo", 0, "small"));
  CHECK(seen.value == "small");
  CHECK(pool.stats().started == 1);
  co_await pool.close();
}

// -- the end ----------------------------------------------------------------------------------------------------------

ASYNC_TEST("close lets the jobs that run or wait finish, and refuses others") {
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(1));
  auto running = start(pool, to("wait", 30));
  auto waiting = start(pool, to("echo", 0, "too"));
  bool closed = false;
  const auto closing = [&]() -> asio::awaitable<void> {
    co_await pool.close();
    closed = true;
  };
  asio::co_spawn(executor, closing(), asio::detached);
  const auto refused = co_await outcome_of(pool, to("echo"));
  CHECK(refused.code == errc::closed);
  CHECK_FALSE(closed);
  auto seen = co_await running.wait();
  CHECK(seen.value == "done");
  seen = co_await waiting.wait();
  CHECK(seen.value == "too");
  co_await pool.close();
  CHECK(pool.stats().processes == 0);
  CHECK(pool.stats().started == 1);
  co_await yield(2);
  CHECK(closed);
}

ASYNC_TEST("close of a pool that has done nothing returns at once") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
  co_await pool.close();
  co_await pool.close();
}

PLAIN_TEST("a close can be cancelled at every suspension point, and called again") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(1));
    auto running = start(pool, to("wait", 5));
    const bool closed = co_await cancelled(pool.close());
    if (!closed) co_await pool.close();
    CHECK(pool.stats().processes == 0);
    CHECK(running.ended());
    CHECK(running.seen().value == "done");
  });
  CHECK(points > 0);
}

ASYNC_TEST("destroying a pool kills its processes, and its jobs end with closed") {
  const scratch files;
  const auto executor = co_await asio::this_coro::executor;
  std::optional<process_pool<deed_job>> pool(std::in_place, executor, pool_of(2));
  auto hanging = start(*pool, to("hang", 0, files / "pid"));
  auto starting = start(*pool, to("echo"));
  auto waiting = start(*pool, to("echo"));
  const bool begun = co_await eventually([&] { return std::filesystem::exists(files / "pid"); });
  CHECK(begun);
  co_await eventually([&] { return waiting.ended(); });
  auto late = start(*pool, to("wait", 60'000));
  auto later = start(*pool, to("wait", 60'000));
  pool.reset();
  auto seen = co_await hanging.wait();
  CHECK(seen.code == errc::closed);
  seen = co_await late.wait();
  CHECK(seen.code == errc::closed);
  seen = co_await later.wait();
  CHECK(seen.code == errc::closed);
  seen = co_await starting.wait();
  CHECK(seen.value == "");
  CHECK_FALSE(seen.code);
}

PLAIN_TEST("a destroyed pool lets its context run out, and a context that goes away takes the processes along") {
  for (const bool runs_out : {true, false}) {
    CAPTURE(runs_out);
    asio::io_context context;
    bool ended = false;
    const auto main = [&]() -> asio::awaitable<void> {
      process_pool<deed_job> pool(context.get_executor(), pool_of(2));
      auto idle = start(pool, to("echo"));
      auto busy = start(pool, to("wait", 60'000));
      co_await idle.wait();
      ended = true;
      if (!runs_out) co_await busy.wait();
    };
    asio::co_spawn(context, main(), asio::detached);
    if (runs_out) {
      context.run();
    } else {
      while (!ended) context.run_one();
    }
    CHECK(ended);
  }
}

ASYNC_TEST("processes die with a parent that is killed, in the middle of a job too") {
  const scratch files;
  auto parent = co_await spawn(helper("pool-parent", files / "pid"));
  int pid = 0;
  const auto read = [&] {
    std::ifstream(files / "pid") >> pid;
    return pid != 0;
  };
  const bool begun = co_await eventually(read);
  REQUIRE(begun);
  const descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  REQUIRE(pidfd);
  parent.signal(SIGKILL);
  co_await parent.wait();
  pollfd ended{pidfd.get(), POLLIN, 0};
  CHECK(::poll(&ended, 1, static_cast<int>(std::chrono::milliseconds(patience).count()) / 2) == 1);
}

ASYNC_TEST("a program can be its own pool's program") {
  const auto text = co_await output_of(helper("pool-self"));
  CHECK(text == "25\n");
}

ASYNC_TEST("a program that does not say so first starts no processes without end") {
  auto what = helper("pool-forgot");
  auto started = co_await spawn(what.err(stdio::pipe));
  const auto text = co_await started.err().read_all();
  const auto status = co_await started.wait();
  CHECK(status == exit_status::exited(70));
  CHECK(text.find("main has not called pool::serve_if_worker() first") != text.npos);
  CHECK(text.find("exited with 70: the process was not ready yet") != text.npos);
}

ASYNC_TEST("a worker's program that no pool has started says so") {
  auto what = helper("pool-worker");
  auto started = co_await spawn(what.err(stdio::pipe));
  const auto text = co_await started.err().read_all();
  const auto status = co_await started.wait();
  CHECK(status == exit_status::exited(78));
  CHECK(text == "worker_main: not started by a process_pool\n");
}

}  // namespace cohort::test::process_pool_test
