"""What `auto` chooses in every family of timm: of each one small model, and how it is made small.

A row: name, size (None is its own), settings of fewer blocks (None are its own), the layers.
"""

FAMILIES = {
    "beit": (
        "beit_base_patch16_224",
        96,
        {"depth": 6},
        "blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5",
    ),
    "byoanet": (
        "halonet_h1",
        None,
        None,
        "stages.0.2 stages.1.2 stages.2.2 stages.2.6 stages.2.9 stages.3.2",
    ),
    "byobnet": (
        "test_byobnet",
        None,
        None,
        "stem stages.0.0 stages.1.0 stages.2.0 stages.3.0",
    ),
    "cait": (
        "cait_xxs24_224",
        None,
        None,
        "blocks.3 blocks.7 blocks.11 blocks.16 blocks.20 norm",
    ),
    "coat": (
        "coat_tiny",
        None,
        None,
        "serial_blocks1.1 patch_embed3 patch_embed4 parallel_blocks.1 cpe2 parallel_blocks.5",
    ),
    "convit": (
        "convit_tiny",
        None,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.8 blocks.10 norm",
    ),
    "convmixer": (
        "convmixer_768_32",
        96,
        None,
        "blocks.4.0 blocks.10.0 blocks.15.0 blocks.21.0 blocks.27.0 blocks.31.3",
    ),
    "convnext": (
        "test_convnext",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "cpubone": (
        "cpubone_nano",
        None,
        None,
        "stages.0.0 stages.1.0 stages.2.1 stages.3.0 stages.3.2 head.in_conv.norm",
    ),
    "crossvit": (
        "crossvit_tiny_240",
        None,
        None,
        "patch_embed.0 patch_embed.1 blocks.0 blocks.1 blocks.2 norm.0",
    ),
    "csatv2": (
        "csatv2",
        224,
        None,
        "stages.1.1 stages.2.2 stages.2.5 stages.2.8 stages.3.3 stages.3.6",
    ),
    "cspnet": (
        "cs3darknet_focus_s",
        None,
        None,
        "stages.0.blocks.0 stages.1.blocks.0 stages.1.conv_transition stages.2.blocks.1 "
        "stages.3.conv_down stages.3.conv_transition",
    ),
    "cspnext": (
        "cspnext_tiny",
        None,
        None,
        "stem.1 stages.0.0 stages.1.0 stages.2.0 stages.3.0 stages.3.2",
    ),
    "davit": (
        "davit_tiny",
        None,
        None,
        "stages.0.blocks.0.1 stages.1.blocks.0.1 stages.2.blocks.0.0 stages.2.blocks.1.1 "
        "stages.3.downsample stages.3.blocks.0.1",
    ),
    "deepseek_vit": (
        "deepseek_vit_412m",
        224,
        {"depth": 4},
        "encoder.patch_embed encoder.blocks.0 encoder.blocks.1 encoder.blocks.2 "
        "encoder.blocks.3 encoder.norm",
    ),
    "deit": (
        "deit_tiny_patch16_224",
        None,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.8 blocks.10 norm",
    ),
    "densenet": (
        "densenet121",
        None,
        None,
        "features.denseblock1 features.transition1.norm features.transition2.norm "
        "features.denseblock3 features.denseblock4 features.norm5",
    ),
    "dla": (
        "dla46x_c",
        None,
        None,
        "level0 level1 level2 level3 level4 level5",
    ),
    "dpn": (
        "dpn48b",
        None,
        None,
        "features.conv2_2 features.conv3_2 features.conv4_1 features.conv4_4 features.conv5_1 "
        "features.conv5_bn_ac",
    ),
    "edgenext": (
        "edgenext_xx_small",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "efficientformer": (
        "efficientformer_l1",
        None,
        None,
        "stages.0.blocks.2 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.5 "
        "stages.3.blocks.1 norm",
    ),
    "efficientformer_v2": (
        "efficientformerv2_s0",
        None,
        None,
        "stages.0.blocks.1 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.5 "
        "stages.3.blocks.1 norm",
    ),
    "efficientnet": (
        "test_efficientnet",
        None,
        None,
        "blocks.0.0 blocks.1.0 blocks.2.0 blocks.3.0 blocks.4.0 bn2",
    ),
    "efficientvim": (
        "efficientvim_m1",
        None,
        None,
        "patch_embed stages.0 stages.1 stages.2 norm.3",
    ),
    "efficientvit_mit": (
        "efficientvit_b0",
        None,
        None,
        "stem.res0 stages.0 stages.1 stages.2 stages.3 head.in_conv",
    ),
    "efficientvit_msra": (
        "efficientvit_m0",
        None,
        None,
        "patch_embed.conv4 stages.1.downsample.res1.1 stages.1.downsample.res2.1 "
        "stages.2.downsample.res1.1 stages.2.downsample.res2.1 stages.2.blocks.2",
    ),
    "eva": (
        "vit_tiny_patch16_dinov3_qkvb",
        None,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.8 blocks.10 norm",
    ),
    "fasternet": (
        "fasternet_t0",
        None,
        None,
        "patch_embed stages.0 stages.1 stages.2 stages.3",
    ),
    "fastvit": (
        "fastvit_t8",
        None,
        None,
        "stem.1 stem.2 stages.0 stages.2 stages.3 final_conv",
    ),
    "focalnet": (
        "focalnet_tiny_srf",
        None,
        None,
        "layers.0.blocks.1 layers.1.blocks.1 layers.2.blocks.1 layers.2.blocks.4 "
        "layers.3.blocks.0 norm",
    ),
    "gcvit": (
        "gcvit_xxtiny",
        None,
        None,
        "stages.0.blocks.1 stages.1.blocks.0 stages.2.blocks.0 stages.2.blocks.3 "
        "stages.3.global_block stages.3.norm",
    ),
    "gemma4_vit": (
        "gemma4_vit_167m",
        192,
        {"depth": 6},
        "encoder.blocks.0 encoder.blocks.1 encoder.blocks.2 encoder.blocks.3 encoder.blocks.4 "
        "encoder.blocks.5",
    ),
    "ghostnet": (
        "ghostnet_050",
        None,
        None,
        "blocks.2.0 blocks.5.0 blocks.6.2 blocks.7.0 blocks.8.2 blocks.9.0",
    ),
    "hardcorenas": (
        "hardcorenas_b",
        None,
        None,
        "blocks.1.1 blocks.2.1 blocks.3.1 blocks.4.1 blocks.5.0 blocks.6.0",
    ),
    "hgnet": (
        "hgnetv2_b0",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "hiera": (
        "hiera_tiny_224",
        None,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.7 blocks.9 blocks.11",
    ),
    "hieradet_sam2": (
        "sam2_hiera_tiny",
        256,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.7 blocks.9 blocks.11",
    ),
    "hrnet": (
        "hrnet_w18_small",
        None,
        None,
        "transition1.1.0 transition2.2.0 transition3.3.0 incre_modules.0.0 incre_modules.2.0 "
        "final_layer",
    ),
    "iformer": (
        "iformer_t",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "inception_next": (
        "inception_next_atto",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "inception_resnet_v2": (
        "inception_resnet_v2",
        139,
        None,
        "repeat.2 mixed_6a repeat_1.7 repeat_1.15 repeat_2.2 conv2d_7b",
    ),
    "inception_v3": (
        "inception_v3",
        139,
        None,
        "Conv2d_2b_3x3 Mixed_5b Mixed_5d Mixed_6c Mixed_7a Mixed_7c",
    ),
    "inception_v4": (
        "inception_v4",
        139,
        None,
        "features.3 features.7 features.10 features.14 features.18 features.21",
    ),
    "lcnetv2": (
        "lcnetv2_small",
        None,
        None,
        "stem.1 stages.0.1 stages.1.1 stages.2.1 stages.2.3 stages.3.1",
    ),
    "levit": (
        "levit_128s",
        None,
        None,
        "stem.conv3 stages.0.blocks.0 stages.1.blocks.0 stages.1.blocks.2 stages.2.blocks.1 "
        "stages.2.blocks.3",
    ),
    "lowformer": (
        "lowformer_b0",
        None,
        None,
        "stages.1.0 stages.2.1 stages.2.3 stages.3.1 stages.3.3 in_conv",
    ),
    "mambaout": (
        "test_mambaout",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "maxxvit": (
        "test_coatnet",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3 norm",
    ),
    "metaformer": (
        "poolformerv2_s12",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "mlp_mixer": (
        "gmlp_ti16_224",
        None,
        None,
        "blocks.4 blocks.9 blocks.14 blocks.20 blocks.25 norm",
    ),
    "mobilenetv3": (
        "mobilenetv3_small_050",
        None,
        None,
        "blocks.1.0 blocks.2.0 blocks.2.2 blocks.3.1 blocks.4.1 blocks.5.0",
    ),
    "mobilenetv5": (
        "mobilenetv5_base",
        128,
        None,
        "blocks.1.2 blocks.2.4 blocks.2.11 blocks.3.2 blocks.3.9 msfa",
    ),
    "mobilevit": (
        "mobilevit_xxs",
        None,
        None,
        "stages.0.0 stages.1.1 stages.2.0 stages.3.0 stages.4.0 final_conv",
    ),
    "mvitv2": (
        "mvitv2_tiny",
        None,
        None,
        "stages.0.blocks.0 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.3 "
        "stages.3.blocks.0 norm",
    ),
    "naflexvit": (
        "naflexvit_base_patch16_parfac_gap",
        192,
        {"depth": 6},
        "blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5",
    ),
    "nasnet": (
        "nasnetalarge",
        128,
        None,
        "cell_0 cell_4 cell_7 cell_11 cell_14 cell_17",
    ),
    "nest": (
        "nest_tiny",
        None,
        None,
        "levels.0.transformer_encoder.1 levels.1.transformer_encoder.0 "
        "levels.2.transformer_encoder.0 levels.2.transformer_encoder.2 "
        "levels.2.transformer_encoder.5 levels.2.transformer_encoder.7",
    ),
    "nextvit": (
        "nextvit_small",
        None,
        None,
        "stages.0.blocks.0 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.5 "
        "stages.2.blocks.9 norm",
    ),
    "nfnet": (
        "test_nfnet",
        None,
        None,
        "stem stages.0.0 stages.1.0 stages.2.0 stages.3.0",
    ),
    "pit": (
        "pit_ti_224",
        None,
        None,
        "transformers.0.blocks.1 transformers.1.blocks.0 transformers.1.blocks.3 "
        "transformers.1.blocks.5 transformers.2.blocks.1 transformers.2.blocks.3",
    ),
    "pnasnet": (
        "pnasnet5large",
        128,
        None,
        "cell_stem_1 cell_1 cell_4 cell_6 cell_9 cell_11",
    ),
    "pvt_v2": (
        "pvt_v2_b0",
        None,
        None,
        "stages.0.blocks.1 stages.1.blocks.0 stages.2.downsample stages.2.blocks.1 "
        "stages.3.blocks.0 stages.3.norm",
    ),
    "qwen3_vit": (
        "qwen3_vit_88m",
        192,
        {"depth": 6},
        "encoder.blocks.0 encoder.blocks.1 encoder.blocks.2 encoder.blocks.3 encoder.blocks.4 "
        "encoder.blocks.5",
    ),
    "rdnet": (
        "rdnet_tiny",
        None,
        None,
        "dense_stages.0.0.dense_block2 dense_stages.2.2.dense_block0 "
        "dense_stages.3.2.dense_block0 dense_stages.4.2.dense_block1 "
        "dense_stages.5.2.dense_block2 dense_stages.6.2.dense_block2",
    ),
    "regnet": (
        "regnetx_002",
        None,
        None,
        "s2.b1 s3.b2 s3.b4 s4.b3 s4.b5 s4.b7",
    ),
    "repghost": (
        "repghostnet_050",
        None,
        None,
        "blocks.2.0 blocks.5.0 blocks.6.2 blocks.7.0 blocks.8.2 blocks.9.0",
    ),
    "repvit": (
        "repvit_m1",
        None,
        None,
        "stem stages.0 stages.1 stages.2 stages.3",
    ),
    "res2net": (
        "res2next50",
        None,
        None,
        "layer1.2 layer2.2 layer3.0 layer3.3 layer4.0 layer4.2",
    ),
    "resnest": (
        "resnest14d",
        None,
        None,
        "conv1 layer1.0 layer2.0 layer3.0 layer4.0",
    ),
    "resnet": (
        "test_resnet",
        None,
        None,
        "conv1 layer1.0 layer2.0 layer3.0 layer4.0.downsample",
    ),
    "resnetv2": (
        "resnetv2_18",
        None,
        None,
        "stages.0.blocks.0 stages.1.blocks.0 stages.1.blocks.1 stages.2.blocks.1 "
        "stages.3.blocks.1 norm",
    ),
    "rexnet": (
        "rexnet_100",
        None,
        None,
        "features.1 features.4 features.7 features.10 features.13 features.16",
    ),
    "selecsls": (
        "selecsls42",
        None,
        None,
        "features.0 features.1 features.2 features.3 features.4 features.5",
    ),
    "senet": (
        "legacy_seresnet18",
        None,
        None,
        "layer1.0 layer1.1 layer2.1 layer3.0 layer4.0 layer4.1",
    ),
    "sequencer": (
        "sequencer2d_s",
        None,
        None,
        "stages.0.blocks.2 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.5 "
        "stages.3.blocks.0 norm",
    ),
    "shvit": (
        "shvit_s1",
        None,
        None,
        "stages.0.blocks.0 stages.1.downsample.2 stages.1.blocks.1 stages.2.downsample.1 "
        "stages.2.blocks.0 stages.2.blocks.4",
    ),
    "sknet": (
        "skresnet18",
        None,
        None,
        "layer1.1 layer2.0 layer2.1 layer3.1 layer4.0 layer4.1",
    ),
    "starnet": (
        "starnet_s050",
        None,
        None,
        "stages.0.0 stages.1.0 stages.2.0 stages.2.2 stages.3.0 norm",
    ),
    "swiftformer": (
        "swiftformer_xs",
        None,
        None,
        "stages.0.blocks.2 stages.1.blocks.1 stages.2.blocks.1 stages.2.blocks.4 "
        "stages.3.blocks.1 norm",
    ),
    "swin_transformer": (
        "swin_tiny_patch4_window7_224",
        None,
        None,
        "layers.0.blocks.1 layers.1.blocks.1 layers.2.blocks.1 layers.2.blocks.4 "
        "layers.3.blocks.0 norm",
    ),
    "swin_transformer_v2": (
        "swinv2_tiny_window8_256",
        None,
        None,
        "layers.0.blocks.1 layers.1.blocks.1 layers.2.blocks.1 layers.2.blocks.4 "
        "layers.3.blocks.0 norm",
    ),
    "swin_transformer_v2_cr": (
        "swinv2_cr_tiny_224",
        None,
        None,
        "stages.0.blocks.1 stages.1.blocks.1 stages.2.blocks.0 stages.2.blocks.3 "
        "stages.3.downsample stages.3.blocks.1",
    ),
    "tiny_vit": (
        "tiny_vit_5m_224",
        None,
        None,
        "patch_embed stages.0 stages.1 stages.2 stages.3",
    ),
    "tnt": (
        "tnt_s_legacy_patch16_224",
        None,
        None,
        "blocks.2 blocks.4 blocks.6 blocks.8 blocks.10 norm",
    ),
    "tresnet": (
        "tresnet_m",
        None,
        None,
        "body.layer1.2 body.layer2.3 body.layer3.2 body.layer3.6 body.layer3.10 body.layer4.2",
    ),
    "twins": (
        "twins_svt_small",
        None,
        None,
        "patch_embeds.1 patch_embeds.2 blocks.2.3 blocks.2.7 pos_block.3 norm",
    ),
    "vgg": (
        "vgg11",
        128,
        None,
        "features.4 features.9 features.12 features.17 pre_logits.act1 pre_logits.act2",
    ),
    "visformer": (
        "visformer_tiny",
        None,
        None,
        "stage1.1 stage1.4 patch_embed2 stage2.3 stage3.1 norm",
    ),
    "vision_transformer": (
        "test_vit",
        None,
        None,
        "blocks.0 blocks.1 blocks.2 blocks.4 blocks.5 norm",
    ),
    "vision_transformer_hybrid": (
        "vit_tiny_r_s16_p8_224",
        None,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.8 blocks.10 norm",
    ),
    "vision_transformer_relpos": (
        "test_vit_relpos",
        None,
        None,
        "blocks.0 blocks.2 blocks.3 blocks.5 blocks.7 blocks.8",
    ),
    "vision_transformer_sam": (
        "samvit_base_patch16_224",
        None,
        {"depth": 6},
        "blocks.0 blocks.1 blocks.2 blocks.4 blocks.5 neck",
    ),
    "vitamin": (
        "vitamin_small_224",
        None,
        None,
        "blocks.1 blocks.3 blocks.6 blocks.8 blocks.11 blocks.13",
    ),
    "volo": (
        "volo_d1_224",
        None,
        None,
        "network.0.2 network.2.1 network.3.1 network.3.5 network.4.1 norm",
    ),
    "vovnet": (
        "ese_vovnet19b_slim_dw",
        None,
        None,
        "stem.1 stem.2 stages.0 stages.1 stages.2 stages.3",
    ),
    "xception": (
        "legacy_xception",
        128,
        None,
        "block3 block5 block8 block10 conv3 bn4",
    ),
    "xception_aligned": (
        "xception41p",
        128,
        None,
        "blocks.1 blocks.3 blocks.5 blocks.8 blocks.10 blocks.12",
    ),
    "xcit": (
        "xcit_nano_12_p8_224",
        None,
        None,
        "blocks.0 blocks.3 blocks.6 blocks.9 cls_attn_blocks.0 norm",
    ),
}

# families whose `feature_info` names a layer by another name than it has
OTHER_NAMES = {
    "gemma4_vit": ("blocks.", "encoder.blocks."),
    "mvitv2": ("block.", "stages."),
}
# families in which what timm calls a layer's features is not what that layer gives, and why
NOT_ITS_OWN = {
    "coat": "branches of several resolutions side by side, in lists that are never called",
    "crossvit": "two branches joined, where a layer gives both",
    "twins": "whole stages, lists that are never called",
    "hrnet": "branches of several resolutions, joined by modules behind them",
}
