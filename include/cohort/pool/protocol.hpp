// SPDX-License-Identifier: BSL-1.0
/// What a pool and its processes say to each other. A process gets a job, reports progress, and answers; then it is
/// free for the next one.
#pragma once

#include <string>
#include <type_traits>
#include <variant>

#include "job.hpp"

namespace cohort::pool {

/// Do this.
template <class Job>
struct order {
  typename Job::argument argument;
};

/// The process is set up and takes jobs.
struct ready {};

template <class Job>
struct progress_report {
  typename Job::progress progress;
};

/// The job is done.
template <class Job>
struct answer {
  std::conditional_t<std::is_void_v<typename Job::result>, std::monostate, typename Job::result> result{};
};

/// The job has thrown.
struct failure {
  std::string text;
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

}  // namespace cohort::pool
