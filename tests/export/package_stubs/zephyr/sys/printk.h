/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Stands for Zephyr's header where only the calls are checked. */
#include <stdio.h>
#define printk printf
