// expect: a shared_ptr is not shared by processes
#include <memory>

#include <cohort/ipc/codec/codec.hpp>

struct job {
  std::shared_ptr<int> number;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
