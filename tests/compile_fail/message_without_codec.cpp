// expect: specialise cohort::codec<T> for it
#include <cohort/ipc/codec/codec.hpp>

class temperature {
 public:
  temperature() = default;
  explicit temperature(double kelvin) : kelvin_(kelvin) {}

 private:
  double kelvin_ = 0;
};

struct job {
  temperature at;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
