"""What a layer sees: the patches that excite its channels, images made to, and views back."""
