// SPDX-License-Identifier: BSL-1.0
/// What a pool and its processes say to each other. A process gets a job, reports progress, and answers; then it is
/// free for the next one.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <variant>

#include "job.hpp"

namespace cohort::pool {

/// Do this. Orders are numbered from 1, for each process anew, and what is said of one has its number: a job may fork,
/// and its copy return as well, whose words are then about an order that is closed.
template <class Job>
struct order {
  typename Job::argument argument;
  std::uint64_t number = 0;
};

/// The process is set up and takes jobs.
struct ready {};

template <class Job>
struct progress_report {
  typename Job::progress progress;
  std::uint64_t number = 0;
};

/// The job is done.
template <class Job>
struct answer {
  std::conditional_t<std::is_void_v<typename Job::result>, std::monostate, typename Job::result> result{};
  std::uint64_t number = 0;
};

/// The job has thrown.
struct failure {
  std::string text;
  std::uint64_t number = 0;
};

namespace detail {

template <class Job, bool = cohort::detail::reports_progress<Job>>
struct reply {
  using type = std::variant<ready, answer<Job>, failure>;
};
template <class Job>
struct reply<Job, true> {
  using type = std::variant<ready, answer<Job>, failure, progress_report<Job>>;
};

}  // namespace detail

template <class Job>
struct protocol {
  using to_child = order<Job>;
  using to_parent = typename detail::reply<Job>::type;
};

/// Whether this is the answer to another order than the open one.
template <class Job>
bool is_about_another(const typename protocol<Job>::to_parent& said, std::uint64_t open) {
  if (auto* const done = std::get_if<answer<Job>>(&said)) return done->number != open;
  if (auto* const thrown = std::get_if<failure>(&said)) return thrown->number != open;
  return false;
}

}  // namespace cohort::pool
