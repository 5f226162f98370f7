// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "asio.hpp"
#include "event.hpp"
#include "safe_in_await.hpp"
#include "task_group.hpp"

namespace cohort {

/// Coroutines that ask for the same thing at the same time cause it to be loaded once.
///
///     cohort::single_flight<std::string, page> flights(executor);
///     const auto load = [url] { return download(url); };
///     const page found = co_await flights.run(url, load);
///
/// It is no cache: when a load has ended, the next run() begins another one.
///
/// `Value` is copyable, and each who waits gets a copy; for something large, a std::shared_ptr<const T>.
///
/// Distinct objects: safe. Shared objects: unsafe: on executors of several threads its executor is a strand, and those
/// who call it run there. Destroying it cancels the loads under way, and who waits for one
/// gets what that ends with.
template <class Key, std::copy_constructible Value, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class single_flight {
 public:
  explicit single_flight(asio::any_io_executor executor) : table_(std::make_shared<table>(std::move(executor))) {}

  single_flight(const single_flight&) = delete;
  single_flight& operator=(const single_flight&) = delete;

  ~single_flight() {
    const auto flights = std::exchange(table_->flights, {});
    for (const auto& each : flights) each.second->load.cancel();
  }

  asio::any_io_executor get_executor() { return table_->executor; }

  /// Loads under way that somebody waits for.
  std::size_t size() const noexcept { return table_->flights.size(); }

  /// Waits for the load of `key` that is under way, or begins one: `load()` returns an awaitable<Value>, which runs on
  /// the executor of this object and not in the caller's coroutine.
  ///
  /// What the load throws, each who waits for it gets; the next run() begins another one. Cancelling throws
  /// operation_aborted and leaves the load to the others who wait; the last one to go cancels it, and does not wait for
  /// its end. A load may therefore outlive the run() that has brought it, and `load` must own what it uses. One that
  /// asks for its own key waits for itself.
  template <class Load>
  requires std::invocable < std::decay_t<Load>
  & > asio::awaitable<Value> run(Key key, Load&& load) {
    static_assert(detail::safe_callable_in_await<Load&&>,
                  "GCC before 13 would destroy this function's captures twice inside co_await: name it first "
                  "(auto load = [url] { return download(url); }; co_await flights.run(url, load);)");
    return join<std::decay_t<Load>>(table_, std::move(key), std::forward<Load>(load));
  }

 private:
  struct flight {
    explicit flight(const asio::any_io_executor& executor) : landed(executor), load(executor) {}

    event landed;
    task_group load;  // of one
    std::optional<Value> value;
    std::exception_ptr failure;
    std::size_t waiting = 0;
  };
  using flight_ptr = std::shared_ptr<flight>;

  struct table {
    explicit table(asio::any_io_executor on) : executor(std::move(on)) {}

    /// Takes a flight out, unless another one of that key has taken its place.
    void remove(const Key& key, const flight_ptr& which) {
      const auto at = flights.find(key);
      if (at != flights.end() && at->second == which) flights.erase(at);
    }

    asio::any_io_executor executor;
    std::unordered_map<Key, flight_ptr, Hash, Equal> flights;
  };
  using table_ptr = std::shared_ptr<table>;

  template <class Load>
  static asio::awaitable<Value> join(table_ptr self, Key key, Load load) {
    flight_ptr mine;
    if (const auto at = self->flights.find(key); at != self->flights.end()) {
      mine = at->second;
    } else {
      mine = std::make_shared<flight>(self->executor);
      self->flights.emplace(key, mine);
      // The flight is held by the handler, not by the coroutine: it must be there when the coroutine is gone.
      mine->load.start(fly(*mine, std::move(load)), [self, key, mine](std::exception_ptr failure) {
        mine->failure = failure;
        self->remove(key, mine);
        mine->landed.set();
      });
    }

    ++mine->waiting;
    try {
      co_await mine->landed.wait();
    } catch (...) {
      if (--mine->waiting == 0) {
        self->remove(key, mine);  // first: nobody may join what is being cancelled
        mine->load.cancel();
      }
      throw;
    }
    --mine->waiting;
    if (mine->failure) std::rethrow_exception(mine->failure);
    co_return *mine->value;
  }

  template <class Load>
  static asio::awaitable<void> fly(flight& mine, Load load) {
    auto loading = load();
    mine.value.emplace(co_await std::move(loading));
  }

  table_ptr table_;
};

}  // namespace cohort
