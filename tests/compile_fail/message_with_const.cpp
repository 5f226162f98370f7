// expect: drop the const
#include <cohort/ipc/codec/codec.hpp>

struct job {
  const int number = 1;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
