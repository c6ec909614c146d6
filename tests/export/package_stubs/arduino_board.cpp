// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
// Codes from the standard input, a tick of 1 ms a call of micros(); the program ends with them.
#include "Arduino.h"

#include <stdio.h>
#include <stdlib.h>

Printer Serial;
static uint32_t now;

void Printer::print(const char *text) { fputs(text, stdout); }
void Printer::print(double number, int places) { printf("%.*f", places, number); }
void Printer::println(const char *text) { puts(text); }
void Printer::println(int number) { printf("%d\n", number); }

uint32_t micros() { return now += 1000; }

int analogRead(int) {
  int code;
  if (scanf("%d", &code) != 1) exit(0);
  return code;
}

int main() {
  setup();
  for (;;) loop();
}
