// SPDX-License-Identifier: BSL-1.0
// How channels end: by disconnect(), close(), destruction, or with the peer.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>

#include "channels.hpp"
#include "raw_end.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"

namespace cohort::test::channel_end_test {
namespace {

using strings = std::vector<std::string>;

/// The codes that all operations of a channel end with, each alone.
template <class Out, class In>
asio::awaitable<std::vector<std::error_code>> errors_of_all(channel<Out, In>& of) {
  std::vector<std::error_code> result;
  const text large = text_of_size(50'000);
  const number with{1};
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  auto code = co_await error_of(of.template send<number>(1u));
  result.push_back(code);
  code = co_await error_of(of.send(large));
  result.push_back(code);
  code = co_await error_of(of.send_handle(with, object));
  result.push_back(code);
  try {
    of.post(with);
    result.emplace_back();
  } catch (const std::system_error& error) {
    result.push_back(error.code());
  }
  co_return result;
}

std::vector<std::error_code> four_times(errc code) { return std::vector<std::error_code>(4, make_error_code(code)); }

ASYNC_TEST("disconnect lets everything that was queued arrive, and then the end") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const text large = text_of_size(700'000);
  strings expected;
  for (std::uint64_t i = 0; i < 100; ++i) {
    both.here.post(number{i});
    expected.push_back(std::to_string(i));
  }
  both.here.post(large);
  expected.push_back(as_string(any_message(large)));
  outcome_of<void> ending(executor, both.here.disconnect());
  co_await yield(5);
  CHECK_FALSE(ending.is_there());
  const auto heard = co_await all(both.there);
  CHECK(heard == expected);
  co_await ending.get();
}

ASYNC_TEST("after disconnect nothing can be sent, and everything received") {
  talking both(co_await asio::this_coro::executor);
  co_await both.here.disconnect();
  CHECK(both.here.is_open());
  const auto errors = co_await errors_of_all(both.here);
  CHECK(errors == four_times(errc::closed));
  auto heard = co_await next(both.there);
  CHECK(heard == "(end)");
  heard = co_await next(both.there);  // again
  CHECK(heard == "(end)");

  co_await both.there.send<number>(1u);
  heard = co_await next(both.here);
  CHECK(heard == "1");
  co_await both.there.disconnect();
  heard = co_await next(both.here);
  CHECK(heard == "(end)");
  co_await both.here.disconnect();  // again
}

ASYNC_TEST("after the peer has disconnected it can still be given messages and handles") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  co_await both.there.disconnect();
  auto heard = co_await next(both.here);
  CHECK(heard == "(end)");
  const number with{3};
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  const auto got = co_await both.there.receive_handle();
  CHECK(got);
  co_await giving.get();
  CHECK_FALSE(object);
  co_await both.here.send<number>(4u);
  heard = co_await next(both.there);
  CHECK(heard == "4");
}

ASYNC_TEST("a disconnected peer that dies is known to be gone") {
  talking both(co_await asio::this_coro::executor);
  co_await both.there.disconnect();
  auto heard = co_await next(both.here);
  CHECK(heard == "(end)");
  both.there.close();
  co_await error_of(both.here.send<number>(4u));
  const auto errors = co_await errors_of_all(both.here);
  CHECK(errors == four_times(errc::peer_closed));
  co_await both.here.disconnect();  // nobody is there to read it, which is no error
}

ASYNC_TEST("what the kernel has is delivered after the channel was destroyed") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<any_message, any_message> there(executor, std::move(ends.second));
  {
    channel<any_message, any_message> here(executor, std::move(ends.first));
    for (std::uint64_t i = 0; i < 50; ++i) co_await here.send<number>(i);
    here.post(number{50});  // goes out with the destructor, because there is room
  }
  const auto heard = co_await all(there);
  CHECK(heard.size() == 51);
  const auto handles = co_await there.receive_handle();
  CHECK_FALSE(handles);
}

ASYNC_TEST("a channel that is destroyed within a message leaves a torn one") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<any_message, any_message> there(executor, std::move(ends.second));
  const text large = text_of_size(1024 * 1024);
  std::unique_ptr<outcome_of<void>> sending;
  {
    channel<any_message, any_message> here(executor, std::move(ends.first));
    co_await here.send<number>(1u);
    sending = std::make_unique<outcome_of<void>>(executor, here.send(large));
    co_await yield(3);
  }
  auto code = co_await error_of(sending->get());
  CHECK(code == errc::closed);
  const auto heard = co_await next(there);
  CHECK(heard == "1");
  const auto what = co_await text_of(there.receive());
  CHECK(what == "receive: in the middle of a message: the peer closed the channel");
  code = co_await error_of(there.receive());
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("closing ends all that waits on the channel") {
  const auto executor = co_await asio::this_coro::executor;
  for (const bool destroy : {false, true}) {
    channel_options one_lease;
    one_lease.max_leases = 1;
    talking both(executor, one_lease);
    auto here = std::make_optional(std::move(both.here));
    const number with{1};
    const text large = text_of_size(1024 * 1024);
    descriptor first(::eventfd(0, EFD_CLOEXEC)), second(::eventfd(0, EFD_CLOEXEC));
    outcome_of<void> giving(executor, here->send_handle(with, std::move(first)));
    outcome_of<void> queueing(executor, here->send_handle(with, std::move(second)));
    outcome_of<std::optional<any_message>> receiving(executor, here->receive());
    outcome_of<std::optional<received<any_message>>> taking(executor, here->receive_handle());
    co_await yield(2);
    outcome_of<void> sending(executor, here->send(large));
    outcome_of<void> flushing(executor, here->flush());
    outcome_of<void> ending(executor, here->disconnect());
    co_await yield(5);
    if (destroy) {
      here.reset();
    } else {
      here->close();
      CHECK_FALSE(here->is_open());
    }
    auto code = co_await error_of(receiving.get());
    CHECK(code == operation_aborted());
    code = co_await error_of(taking.get());
    CHECK(code == operation_aborted());
    code = co_await error_of(sending.get());
    CHECK(code == errc::closed);
    code = co_await error_of(flushing.get());
    CHECK(code == errc::closed);
    code = co_await error_of(giving.get());
    CHECK(code == errc::closed);
    code = co_await error_of(queueing.get());
    CHECK(code == errc::closed);
    co_await ending.get();
    CHECK(first);
    CHECK(second);
  }
}

ASYNC_TEST("a closed channel gives no messages, and takes none") {
  talking both(co_await asio::this_coro::executor);
  for (std::uint64_t i = 0; i < 10; ++i) co_await both.there.send<number>(i);
  auto heard = co_await next(both.here);
  CHECK(heard == "0");
  both.here.close();
  both.here.close();  // again
  auto code = co_await error_of(both.here.receive());
  CHECK(code == operation_aborted());
  code = co_await error_of(both.here.receive_handle());
  CHECK(code == operation_aborted());
  const auto errors = co_await errors_of_all(both.here);
  CHECK(errors == four_times(errc::closed));
  co_await both.here.flush();
  co_await both.here.disconnect();
  both.here.decline_handles();
}

ASYNC_TEST("an operation of no channel throws when it is awaited") {
  channel<any_message, any_message> none;
  CHECK_FALSE(none.is_open());
  const auto errors = co_await errors_of_all(none);
  CHECK(errors == four_times(errc::closed));
  auto code = co_await error_of(none.receive());
  CHECK(code == errc::closed);
  code = co_await error_of(none.receive_handle());
  CHECK(code == errc::closed);
  code = co_await error_of(none.flush());
  CHECK(code == errc::closed);
  code = co_await error_of(none.disconnect());
  CHECK(code == errc::closed);
  CHECK_THROWS_AS(none.get_executor(), std::system_error);
  CHECK_THROWS_AS(none.native_handle(), std::system_error);
  CHECK_THROWS_AS(none.decline_handles(), std::system_error);
  none.close();
}

ASYNC_TEST("a channel that gets another one's place is closed") {
  const auto executor = co_await asio::this_coro::executor;
  talking first(executor), second(executor);
  first.here = std::move(second.here);
  auto heard = co_await next(first.there);
  CHECK(heard == "(end)");
  co_await first.here.send<number>(2u);
  heard = co_await next(second.there);
  CHECK(heard == "2");
  auto& itself = first.here;
  first.here = std::move(itself);
  CHECK(first.here.is_open());
}

ASYNC_TEST("a peer that is gone is an end, after all that it had sent") {
  talking both(co_await asio::this_coro::executor);
  for (std::uint64_t i = 0; i < 3; ++i) co_await both.there.send<number>(i);
  both.there.close();
  const auto heard = co_await all(both.here);
  CHECK(heard == strings{"0", "1", "2"});
  const auto handle = co_await both.here.receive_handle();
  CHECK_FALSE(handle);
  const auto errors = co_await errors_of_all(both.here);
  CHECK(errors == four_times(errc::peer_closed));
}

ASYNC_TEST("a peer that went with unread messages is an end all the same") {
  talking both(co_await asio::this_coro::executor);
  for (std::uint64_t i = 0; i < 3; ++i) co_await both.there.send<number>(i);
  co_await both.here.send<number>(9u);  // which it never reads: the kernel resets the pair
  both.there.close();
  const auto heard = co_await all(both.here);
  CHECK(heard == strings{"0", "1", "2"});
}

ASYNC_TEST("a sender that waits hears that the peer is gone") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> sending(executor, both.here.send(large));
  co_await yield(5);
  CHECK_FALSE(sending.is_there());
  both.there.close();
  const auto what = co_await text_of(sending.get());
  CHECK(what == "send: the peer closed the channel");
}

ASYNC_TEST("one who only posts hears that the peer is gone") {
  talking both(co_await asio::this_coro::executor);
  both.there.close();
  both.here.post(number{1});
  co_await yield(3);
  CHECK_THROWS_AS(both.here.post(number{2}), std::system_error);
}

ASYNC_TEST("a peer that ends within a frame has torn a message") {
  const auto executor = co_await asio::this_coro::executor;
  const std::string message = frame(wire::kind::message, number_payload(1));
  for (const std::size_t cut : {std::size_t{1}, std::size_t{7}, std::size_t{8}, message.size() - 1}) {
    against_raw<> both(executor);
    both.there.write(talking_hello() + message + message.substr(0, cut));
    both.there.close();
    const auto heard = co_await next(both.here);
    CHECK(heard == "1");
    auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::peer_closed);
    code = co_await error_of(both.here.receive_handle());
    CHECK(code == errc::peer_closed);
  }
}

ASYNC_TEST("a peer that ends between two pieces has torn a message") {
  against_raw<> both(co_await asio::this_coro::executor);
  both.there.write(talking_hello() + frame(wire::kind::piece, payload_of(1, text{"begun"})));
  both.there.close();
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("a peer that ends before its hello is an end") {
  against_raw<> both(co_await asio::this_coro::executor);
  both.there.close();
  const auto heard = co_await next(both.here);
  CHECK(heard == "(end)");
}

/// All that operations need, kept alive by those that are under way.
struct busy_scene {
  busy_scene(const asio::any_io_executor& executor, const channel_options& options) : both(executor, options) {}

  talking both;
  descriptor object{::eventfd(0, EFD_CLOEXEC)};
  number with{1};
  text large = text_of_size(1024 * 1024);
};

template <class T>
asio::awaitable<void> keeping(std::shared_ptr<busy_scene> alive, asio::awaitable<T> work) {
  co_await std::move(work);
  alive.reset();
}

ASYNC_TEST("operations that are under way when the loop ends are destroyed with it") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options one_lease;
  one_lease.max_leases = 1;
  auto scene = std::make_shared<busy_scene>(executor, one_lease);
  auto& here = scene->both.here;
  for (int i = 0; i < 2; ++i) {
    beside(executor, keeping(scene, here.send_handle(scene->with, scene->object)));
    beside(executor, keeping(scene, here.receive()));
    beside(executor, keeping(scene, here.receive_handle()));
  }
  co_await yield(2);
  for (int i = 0; i < 2; ++i) beside(executor, keeping(scene, here.send(scene->large)));
  beside(executor, keeping(scene, here.flush()));
  beside(executor, keeping(scene, here.disconnect()));
  co_await yield(5);
  CHECK(scene.use_count() == 11);  // the test's own, and that of each operation
}

}  // namespace
}  // namespace cohort::test::channel_end_test
