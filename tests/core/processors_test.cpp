// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/processors.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <sched.h>

#include "../process/directory.hpp"
#include "../support/harness.hpp"

namespace cohort::test::processors_test {
namespace {

/// A tree of control groups.
class groups {
 public:
  groups& file(const std::string& path, const std::string& text) {
    const std::filesystem::path where = root() + path;
    std::filesystem::create_directories(where.parent_path());
    std::ofstream(where) << text;
    return *this;
  }

  std::string root() const { return here_ / "root"; }

 private:
  directory here_;
};

PLAIN_TEST("a process uses the processors of its affinity mask") {
  cpu_set_t before, one;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  const unsigned got = usable_processors();
  REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
  CHECK(got == 1);
  CHECK(usable_processors() >= 1);
  CHECK(usable_processors() <= static_cast<unsigned>(CPU_COUNT(&before)));
}

PLAIN_TEST("the quota is that of the group, or of one above it if that is less") {
  groups tree;
  CHECK_FALSE(detail::processor_quota(tree.root()));
  tree.file("/proc/self/cgroup", "0::/app/web\n").file("/sys/fs/cgroup/app/web/cpu.max", "max 100000\n");
  CHECK_FALSE(detail::processor_quota(tree.root()));
  tree.file("/sys/fs/cgroup/app/cpu.max", "250000 100000\n");
  CHECK(detail::processor_quota(tree.root()) == 2.5);
  tree.file("/sys/fs/cgroup/app/web/cpu.max", "50000 100000\n");
  CHECK(detail::processor_quota(tree.root()) == 0.5);
}

PLAIN_TEST("in a container the quota stands at the root of what is mounted") {
  groups tree;
  tree.file("/proc/self/cgroup", "0::/\n").file("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  CHECK(detail::processor_quota(tree.root()) == 1.5);
  tree.file("/proc/self/cgroup", "0::/not/to/be/seen\n");
  CHECK(detail::processor_quota(tree.root()) == 1.5);
}

PLAIN_TEST("control groups of version 1 have a quota too, and nonsense is none") {
  groups tree;
  tree.file("/proc/self/cgroup", "7:memory:/app\n4:cpu,cpuacct:/app\n")
      .file("/sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "300000\n")
      .file("/sys/fs/cgroup/cpu/app/cpu.cfs_period_us", "100000\n");
  CHECK(detail::processor_quota(tree.root()) == 3.0);
  tree.file("/sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "-1\n");
  CHECK_FALSE(detail::processor_quota(tree.root()));
  tree.file("/proc/self/cgroup", "nonsense\n::\n0:\n");
  CHECK_FALSE(detail::processor_quota(tree.root()));
}

}  // namespace
}  // namespace cohort::test::processors_test
