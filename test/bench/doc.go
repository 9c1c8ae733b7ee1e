// Package bench measures a whole cloud from outside and prints a table; it asserts
// nothing about time.
package bench
