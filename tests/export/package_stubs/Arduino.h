// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
// Stands for Arduino's header: the board is this machine, its pin A0 plays a recording.
#ifndef ARDUINO_H
#define ARDUINO_H
#include <stdint.h>

struct Printer {
  void begin(long) {}
  void print(const char *text);
  void print(double number, int places);
  void println(const char *text);
  void println(int number);
};
extern Printer Serial;
const int A0 = 14;
uint32_t micros();
int analogRead(int pin);
void setup();
void loop();
#endif
