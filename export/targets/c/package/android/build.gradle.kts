// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
// An Android library for phones and Wear OS: `gradle assembleRelease`, with SDK 34 and its NDK.
plugins {
    id("com.android.library") version "8.5.2"
}

android {
    namespace = "xmae"
    compileSdk = 34
    defaultConfig {
        minSdk = 26
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
    }
    externalNativeBuild { cmake { path = file("src/main/cpp/CMakeLists.txt") } }
    androidResources { noCompress += "tflite" }
}

dependencies {
    api("com.google.ai.edge.litert:litert:1.0.1")
}
