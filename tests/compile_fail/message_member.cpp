// expect: a string_view does not own what it shows: use std::string
// also: member_is_fixed<job, 2, std::
#include <string_view>
#include <vector>

#include <cohort/ipc/channel.hpp>

struct job {
  std::vector<int> numbers;
  std::string_view name;
};

asio::awaitable<void> run(cohort::channel<job, job>& channel) { co_await channel.send(job{}); }
